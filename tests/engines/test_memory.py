from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import make_volume, plan_for, write_model

from medsegagent.engines import by_kind
from medsegagent.engines.base import Prediction
from medsegagent.engines.memory import Free, Need, Placement, fallbacks, free_memory, place
from medsegagent.engines.nnunet import label_map
from medsegagent.engines.nnunet.engine import NnunetEngine
from medsegagent.engines.nnunet.label_map import label
from medsegagent.engines.nnunet.need import estimate
from medsegagent.engines.nnunet.network import load_network
from medsegagent.engines.nnunet.prepare import prepare
from medsegagent.engines.run import predict
from medsegagent.errors import ModelError
from medsegagent.models.installed import NnunetFolder

GB = 10**9
NEED = Need(logits=10 * GB, tile=GB, rest=GB)


def part(folder: Path) -> NnunetFolder:
    return NnunetFolder(folder=folder, folds=(0,), checkpoint="checkpoint_final.pth", labels={})


@pytest.mark.parametrize(
    ("free", "device", "logits"),
    [
        (Free(64 * GB, 0, 24 * GB), "cuda", "gpu"),
        (Free(64 * GB, 0, 8 * GB), "cuda:1", "ram"),
        (Free(6 * GB, 64 * GB, 8 * GB), "cuda", "file"),
        (Free(64 * GB, 0), "cpu", "ram"),
        (Free(6 * GB, 64 * GB), "cpu", "file"),
    ],
)
def test_logits_go_where_there_is_room_and_what_is_unusual_is_said(free: Free, device: str, logits: str) -> None:
    placement = place(NEED, free, device)
    assert (placement.compute, placement.logits) == (device, logits)
    assert bool(placement.reason) == (logits == "file" or (logits == "ram" and device != "cpu"))


def test_what_cannot_fit_says_so_with_the_estimate_and_the_way_out() -> None:
    with pytest.raises(ModelError, match="needs about 12 GB") as caught:
        place(NEED, Free(6 * GB, 6 * GB), "cpu")
    assert "TMPDIR" in caught.value.remedy


def test_a_gpu_that_runs_out_gives_up_its_logits_first_then_its_work() -> None:
    free = Free(64 * GB, 64 * GB, 24 * GB)
    steps = fallbacks(Placement("cuda", "gpu"), NEED, free)
    assert [(step.compute, step.logits) for step in steps] == [("cuda", "gpu"), ("cuda", "ram"), ("cpu", "ram")]
    assert fallbacks(Placement("cpu", "file"), NEED, free) == [Placement("cpu", "file")]


def test_the_next_placement_is_tried_when_memory_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = load_network(part(write_model(tmp_path)))
    expected = label(trained, prepare(trained, [make_volume()]), "cpu")
    forward = trained.network.forward
    calls = []

    def full_at_first(patch: torch.Tensor) -> torch.Tensor:
        calls.append(patch.shape)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(patch)

    trained.network.forward = full_at_first
    steps = [Placement("cpu", "ram", "first"), Placement("cpu", "file", "second")]
    monkeypatch.setattr(label_map, "fallbacks", lambda *_: steps)
    again = label(trained, prepare(trained, [make_volume()]), "cpu")
    assert again.notes == ("second",)
    assert np.array_equal(again.labels, expected.labels), "logits in a file give the same labels"


def test_the_estimate_is_near_what_is_allocated(tmp_path: Path) -> None:
    trained = load_network(part(write_model(tmp_path, patch=(16, 16, 24))))
    need = estimate(trained, 1, (40, 30, 20), image_voxels=1000)
    assert need.logits == 2 * 4 * 40 * 30 * 24, "half precision, four classes, padded to the patch"
    assert free_memory("cpu").ram > need.tile


def test_too_little_memory_is_a_failure_that_names_the_need(tmp_path: Path) -> None:
    """Forced by a limit on the process's address space, as `ulimit -v` sets it."""
    labels = {"background": 0} | {f"l{i}": i for i in range(1, 400)}
    folder = write_model(tmp_path, labels, spacing=(1.0, 1.0, 1.0), mirror_axes=None)
    probe = f"""
import resource, sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
from tiny_models import make_volume, plan_for
from medsegagent.engines.run import predict
import torch, nnunetv2.preprocessing.preprocessors.default_preprocessor, medsegagent.engines.nnunet.cells
torch.set_num_threads(1)
volume = make_volume((150, 150, 150), (1.0, 1.0, 1.0))
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 10**9, resource.RLIM_INFINITY))
(outcome,) = predict(plan_for(Path({str(folder)!r})), [volume])
print(outcome.reason)
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=120)
    assert "prediction needs about" in done.stdout, done.stderr


def test_networks_stay_warm_until_others_need_the_room_or_their_files_change(tmp_path: Path) -> None:
    folders = [write_model(tmp_path, name=f"Dataset90{n}_Toy", seed=n) for n in (1, 2)]
    one, two = (part(folder) for folder in folders)
    roomy, tight = NnunetEngine(keep_bytes=2**30), NnunetEngine(keep_bytes=1)
    first = roomy.network(one)
    roomy.network(two)
    assert roomy.network(one) is first
    first = tight.network(one)
    assert tight.network(one) is first
    tight.network(two)
    assert tight.network(one) is not first
    first = roomy.network(one)
    (one.folder / "plans.json").touch()
    assert roomy.network(one) is not first


def test_a_warm_network_answers_as_a_cold_one(tmp_path: Path) -> None:
    plan, engines = plan_for(write_model(tmp_path)), by_kind([NnunetEngine(keep_bytes=2**30)])
    cold: Any = next(predict(plan, [make_volume()]))
    for _ in range(2):
        warm: Any = next(predict(plan, [make_volume()], engines=engines))
        assert isinstance(warm, Prediction)
        assert np.array_equal(warm.masks["thing"], cold.masks["thing"])
