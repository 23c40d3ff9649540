"""Five small networks of different kinds for handwritten digits: rows (n, 8, 8) in 0 … 1 → logits (n, 10)."""

import torch
from torch import nn


class Perceptron(nn.Module):
    """Two hidden layers on the flat image."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


class SmallConv(nn.Module):
    """One convolution and a linear head."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.head = nn.Linear(16 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(x.unsqueeze(1)))
        return logits


class DeepConv(nn.Module):
    """Three convolutions with batch normalisation."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *self._block(1, width), *self._block(width, width), nn.MaxPool2d(2), *self._block(width, 2 * width)
        )
        self.head = nn.Linear(2 * width, 10)

    @staticmethod
    def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(x.unsqueeze(1)).mean((2, 3)))
        return logits


class Residual(nn.Module):
    """Convolutions that each add to what came before."""

    def __init__(self, width: int = 24, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
            for _ in range(blocks)
        )
        self.head = nn.Linear(4 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x.unsqueeze(1))
        for block in self.blocks:
            x = x + block(x)
        logits: torch.Tensor = self.head(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))
        return logits


class Recurrent(nn.Module):
    """Reads the image line by line, in both directions."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.lines = nn.GRU(8, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.lines(x)[0].mean(1))
        return logits
