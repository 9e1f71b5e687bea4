import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("small")))  # tests and the processes they start import `films`
