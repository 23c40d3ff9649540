"""Small networks of different kinds for rows of shape (3, 8, 8), and one for rows of any shape."""

import torch
from torch import nn


class Linear(nn.Module):
    def __init__(self, classes: int = 4, inputs: int = 192) -> None:
        super().__init__()
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1))


class Conv(nn.Module):
    def __init__(self, width: int = 8, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


class Recurrent(nn.Module):
    def __init__(self, hidden: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.gru = nn.GRU(24, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x.transpose(1, 2).flatten(2))[0][:, -1])


class Raising(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) == 3:
            raise ValueError("this network dislikes three rows")
        return super().forward(x)


class Stacker(nn.Module):
    """Fed with (rows, members, classes): a linear layer over all of them."""

    def __init__(self, members: int = 3, classes: int = 4) -> None:
        super().__init__()
        self.head = nn.Linear(members * classes, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1))


class FlatStacker(Stacker):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def refuse(x: torch.Tensor) -> torch.Tensor:
    if x.any():
        raise ValueError("not this row")
    return x


def drop_row(x: torch.Tensor) -> torch.Tensor:
    return x[1:]


def to_list(x: torch.Tensor) -> list[int]:
    return [len(x)]


def halved(x: torch.Tensor) -> torch.Tensor:
    return x / 2


def joined(images: torch.Tensor, meta: torch.Tensor) -> torch.Tensor:
    return torch.cat([images.flatten(1), meta.to(images.dtype)], 1)


def swapped(images: torch.Tensor, meta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return meta, images
