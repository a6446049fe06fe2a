"""Settings of every test process: few threads, no network, no display.

Nothing of vitrail is imported here: the shape checker hooks into its import (`./vitrail test`).
"""

import os

os.environ["MPLBACKEND"] = "Agg"
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[name] = "1"  # a test that downloads is a mistake
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core; before torch starts its threads
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import torch  # noqa: E402

from tests import torchvision_operators  # noqa: E402

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
torchvision_operators.register()
