"""ImageAI through the same YAML: the real app, with weights that the test made."""

from pathlib import Path

import httpx2
import pytest

from tests.harness import example, rows, running, wait_for
from tests.pictures import picture

pytestmark = [pytest.mark.vision]


@pytest.mark.parametrize(("network", "constructor"), [("MobileNetV2", "mobilenet_v2"), ("ResNet50", "resnet50")])
def test_uploads_are_labelled_by_imageai_in_a_pool_child(tmp_path: Path, network: str, constructor: str) -> None:
    import torch
    import torchvision

    weights = tmp_path / "random.pth"
    torch.save(getattr(torchvision.models, constructor)().state_dict(), weights)
    folder = example(tmp_path)
    with running(folder, IMAGEAI_MODEL=network, IMAGEAI_WEIGHTS=str(weights)) as app:
        app.ready(timeout=120)
        for name in ("one.png", "two.png", "three.png"):
            httpx2.post(f"{app.url}/image-upload", files={"image_file": (name, picture("green"))}, timeout=30)
        found = wait_for(lambda: len(r := rows(folder, "classifications")) == 3 and r, 60, "three rows")
        assert {row["model"] for row in found} == {f"ImageAI {network}"}
        assert all(len(row["classifications"]) == 5 for row in found)
        assert app.stop() < 10
