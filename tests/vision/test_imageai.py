"""ImageAI's own loading and classification, on weights that the test makes: random, but real to ImageAI."""

from pathlib import Path

import pytest
from PIL import Image

from handlers_example.model import load_model
from handlers_example.pictures import UnreadableImage
from handlers_example.weights import PUBLISHED

pytestmark = [
    pytest.mark.vision,
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # torchvision on its own initial weights
]

CONSTRUCTORS = {
    "MobileNetV2": "mobilenet_v2",
    "ResNet50": "resnet50",
    "InceptionV3": "inception_v3",
    "DenseNet121": "densenet121",
}


def random_weights(network: str, folder: Path) -> Path:
    import torch
    import torchvision

    path = folder / PUBLISHED[network]
    torch.save(getattr(torchvision.models, CONSTRUCTORS[network])().state_dict(), path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "dog.png"
    Image.effect_noise((320, 240), 90).convert("RGBA").save(path)
    return path


@pytest.mark.parametrize("network", list(CONSTRUCTORS))
def test_every_network_labels_a_picture(tmp_path: Path, picture: Path, network: str) -> None:
    classifier = load_model(str(random_weights(network, tmp_path)), network)
    found = classifier.classify(picture)
    assert classifier.name == f"ImageAI {network}"
    assert len(found) == 5
    assert len({each.label for each in found}) == 5
    assert [each.confidence for each in found] == sorted((each.confidence for each in found), reverse=True)
    assert 0 <= found[-1].confidence <= found[0].confidence <= 1


def test_a_torn_file_is_unreadable_for_imageai_too(tmp_path: Path, picture: Path) -> None:
    classifier = load_model(str(random_weights("MobileNetV2", tmp_path)), "MobileNetV2")
    picture.write_bytes(picture.read_bytes()[:2000])
    with pytest.raises(UnreadableImage, match="incomplete or damaged"):
        classifier.classify(picture)


def test_weights_of_another_network_are_an_error_in_words(tmp_path: Path) -> None:
    weights = random_weights("ResNet50", tmp_path)
    with pytest.raises(RuntimeError, match=r"cannot load .*resnet50.* as MobileNetV2 \(RuntimeError: Error"):
        load_model(str(weights), "MobileNetV2")


def test_weights_that_are_none_are_an_error_in_words(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes(b"not weights at all")
    with pytest.raises(RuntimeError, match=r"cannot load .*own\.pth as MobileNetV2 \(.*Error"):
        load_model(str(path), "MobileNetV2")
