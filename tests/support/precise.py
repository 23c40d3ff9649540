"""Networks whose numbers a cast would change: complex ones, and ones of float64 with large offsets."""

import torch
from torch import nn


class Spectral(nn.Module):
    """A Fourier layer: complex weights on the lowest modes, as neural operators have."""

    def __init__(self, modes: int = 8) -> None:
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(3, modes, dtype=torch.cfloat))
        self.out = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(2)
        low = torch.fft.rfft(x)[..., : self.modes] * self.weight
        return self.out(torch.fft.irfft(low, n=x.shape[-1]).transpose(1, 2)).mean(1)


class Rotary(nn.Module):
    """Rotary positions by complex multiplication, its table in a buffer that no file holds."""

    def __init__(self) -> None:
        super().__init__()
        angle = torch.outer(torch.arange(24.0), 1 / 100 ** (torch.arange(0, 8, 2) / 8))
        self.register_buffer("turns", torch.polar(torch.ones_like(angle), angle), persistent=False)
        self.out = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.view_as_complex(x.reshape(-1, 24, 4, 2).contiguous())
        return self.out(torch.view_as_real(z * self.turns).flatten(2)).mean(1)


class Energies(nn.Module):
    """A potential in double precision: small corrections to large energies."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, width), nn.Tanh(), nn.Linear(width, 2)).double()
        self.register_buffer("offset", torch.tensor(-123456.789, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.to(self.offset.dtype)) + self.offset


class Single(Energies):
    """The same, built in single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.float()


class Shifted(nn.Module):
    """Of single precision, but for a number that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 2)
        self.offset = torch.tensor(-123456.789, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1)) + self.offset


class Rounding(nn.Module):
    """Its middle is of single precision, whatever it is brought to."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1)).float()


class Wide(nn.Linear):
    """One tensor of twice the width, in a parameter or a buffer."""

    def __init__(self, kind: str) -> None:
        super().__init__(192, 2)
        tensor = torch.zeros(2, dtype=torch.complex128 if kind == "complex" else torch.float64)
        if kind == "parameter":
            self.wide = nn.Parameter(tensor)
        else:
            self.register_buffer("wide", tensor)


def seeded(kind: type[nn.Module], seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return kind().eval().requires_grad_(False)
