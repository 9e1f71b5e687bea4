"""What holds for the repository as a whole: public names, the wheel, the pins, imports that are light."""

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import mlops_assets

ROOT = Path(__file__).resolve().parents[1]

PUBLIC = {
    "Aggregate", "AtLeast", "AtMost", "BlueGreen", "Canary", "DataContract", "Equivalent", "FeatureView", "FileSource",
    "InvalidDefinition", "Judgement", "LiveAnalysis", "LivePerformance", "MlopsError", "ModelProduct", "NonInferior",
    "ParityHolds", "Platform", "Profile", "Recipe", "RequestFeature", "RetrainingPolicy", "Superior", "TimeSplit",
    "UnivariateDrift", "Verdict", "build_definitions", "governed", "low_latency", "velocity",
    "Calibrated", "ErrorControl", "Fair", "GoldenBudget", "LatencyAtMost", "LatencyBudget", "NoLeakage", "RateAtMost",
    "RateNotAbove",
    "Reproducible", "Serves", "Slice", "SlicesHold", "StablePredictions",
}  # fmt: skip


def test_the_public_names_are_these():
    assert set(mlops_assets.__all__) == PUBLIC
    assert all(getattr(mlops_assets, name).__name__ == name for name in PUBLIC)


def test_the_wheel_holds_the_library_only(tmp_path):
    build = [sys.executable, "-c", f"import hatchling.build as b; print(b.build_wheel({str(tmp_path)!r}))"]
    name = subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
    with zipfile.ZipFile(tmp_path / name) as wheel:
        tops = {entry.split("/")[0] for entry in wheel.namelist()}
        assert tops == {"mlops_assets", "mlops_assets-0.1.0.dist-info"}
        assert "mlops_assets/product.py" in wheel.namelist()


def test_the_pins_carry_hashes_and_no_address():
    pins = sorted(ROOT.glob("constraints*.txt"))
    assert len(pins) == 4
    for path in pins:
        text = path.read_text()
        assert "://" not in text
        assert "index" not in text.replace("indexed", "")
        requirements = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert len(requirements) > 0
        assert text.count("--hash=sha256:") >= len(requirements)


def test_the_training_process_imports_no_dagster():
    command = "import mlops_assets.training.process, sys; print('dagster' in sys.modules, 'mlflow' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True, capture_output=True, text=True)
    assert ended.stdout.split() == ["False", "False"]


def test_every_module_says_what_it_is_for():
    for path in (ROOT / "mlops_assets").rglob("*.py"):
        module = importlib.import_module(
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        )
        assert module.__doc__, path
