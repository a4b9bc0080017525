from torch_that_may_be_installed import Tensor, no_grad
from torch_that_may_be_installed.nn import Module
import torch_that_may_be_installed.hub as hub


class Net(Module):
    def forward(self, x: Tensor) -> Tensor: ...


def net(path: str) -> Net: ...


@no_grad()
def predict(image: bytes, net: Net) -> Tensor: ...


def index(net: Net, model: hub.Model, device: str = "cpu"): ...
