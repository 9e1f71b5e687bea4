import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).with_name("small")))  # tests and the processes they start import `films`

# No test asserts a duration: machines are shared.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
