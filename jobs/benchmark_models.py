"""Four networks of different kind and cost for 64×64 images: rows (n, 3, 64, 64) float32 → logits (n, 1000).

Below them those of the benchmark for GPUs: ResNet-50, ViT-B/16 and ConvNeXt-T for images of up to 224×224, and an MLP.

| member | kind | dominated by |
| --- | --- | --- |
| residual | ResNet-18 | dense 3×3 convolutions |
| mobile | inverted residuals with squeeze-and-excitation | depthwise convolutions, small kernels |
| dense | DenseNet | concatenation, batch normalisation, memory traffic |
| transformer | ViT with 8×8 patches | matrix products, layer normalisation, attention |
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import h5py
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

CLASSES = 1000


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


class _Basic(nn.Module):
    """Two 3×3 convolutions, added to what came before."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            _conv(outputs, outputs, 3), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        same = stride == 1 and inputs == outputs
        self.skip = nn.Identity() if same else nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


class Residual(nn.Module):
    """ResNet-18."""

    def __init__(self) -> None:
        super().__init__()
        widths = (64, 64, 128, 256, 512)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        self.stages = nn.Sequential(
            *(
                nn.Sequential(_Basic(before, width, 1 + (i > 0)), _Basic(width, width, 1))
                for i, (before, width) in enumerate(pairwise(widths))
            )
        )
        self.head = nn.Linear(512, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(x)).mean((2, 3)))
        return logits


class _Inverted(nn.Module):
    """Widen, convolve each channel alone, weigh the channels, narrow."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, widen: int = 4) -> None:
        super().__init__()
        wide = inputs * widen
        self.widen = nn.Sequential(_conv(inputs, wide, 1), nn.BatchNorm2d(wide), nn.Hardswish())
        self.depthwise = nn.Sequential(
            _conv(wide, wide, size, stride, groups=wide), nn.BatchNorm2d(wide), nn.Hardswish()
        )
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, wide // 4, 1), nn.ReLU(), nn.Conv2d(wide // 4, wide, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip
        self.narrow = nn.Sequential(_conv(wide, outputs, 1), nn.BatchNorm2d(outputs))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.widen(x))
        y = self.narrow(y * self.weigh(y))
        return x + y if self.adds else y


class Mobile(nn.Module):
    """MobileNetV3-like."""

    def __init__(self) -> None:
        super().__init__()
        shape = ((16, 24, 3, 2), (24, 24, 3, 1), (24, 40, 5, 2), (40, 40, 5, 1), (40, 96, 5, 2), (96, 96, 5, 1))
        self.stem = nn.Sequential(_conv(3, 16, 3, 2), nn.BatchNorm2d(16), nn.Hardswish())
        self.blocks = nn.Sequential(*(_Inverted(*of) for of in shape))
        self.head = nn.Sequential(nn.Linear(96, 768), nn.Hardswish(), nn.Linear(768, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


class _Grow(nn.Module):
    """Adds `growth` channels to those it is given."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), _conv(inputs, 4 * growth, 1),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), _conv(4 * growth, growth, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


class Dense(nn.Module):
    """DenseNet of three blocks."""

    def __init__(self, growth: int = 24, depths: tuple[int, ...] = (4, 6, 6)) -> None:
        super().__init__()
        width = 2 * growth
        layers: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.MaxPool2d(3, 2, 1)]
        for i, depth in enumerate(depths):
            if i:
                layers += [nn.BatchNorm2d(width), nn.ReLU(), _conv(width, width // 2, 1), nn.AvgPool2d(2)]
                width //= 2
            for _ in range(depth):
                layers.append(_Grow(width, growth))
                width += growth
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x).mean((2, 3)))
        return logits


class _Attend(nn.Module):
    """A block of a transformer, normalised first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        rows, tokens, width = x.shape
        parts = self.mix(self.before(x)).reshape(rows, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.merge(mixed.transpose(1, 2).reshape(rows, tokens, width))
        return x + self.mlp(self.between(x))


class Transformer(nn.Module):
    """ViT: 64 patches of 8×8."""

    def __init__(self, width: int = 128, heads: int = 4, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.places = nn.Parameter(0.02 * torch.randn(1, 64, width))
        self.blocks = nn.Sequential(*(_Attend(width, heads) for _ in range(depth)), nn.LayerNorm(width))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        logits: Tensor = self.head(self.blocks(tokens).mean(1))
        return logits


class _Bottleneck(nn.Module):
    """Narrow, a 3×3 convolution, widen; added to what came before."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(inputs, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            _conv(width, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            _conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width),
        )  # fmt: skip
        same = stride == 1 and inputs == 4 * width
        skip = nn.Sequential(_conv(inputs, 4 * width, 1, stride), nn.BatchNorm2d(4 * width))
        self.skip = nn.Identity() if same else skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


class ResNet50(nn.Module):
    """ResNet-50."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        stages, inputs = [], 64
        for i, depth in enumerate((3, 4, 6, 3)):
            for block in range(depth):
                stages.append(_Bottleneck(inputs, 64 << i, 2 if i and not block else 1))
                inputs = 4 * (64 << i)
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(x)).mean((2, 3)))
        return logits


class ViTB(nn.Module):
    """ViT-B/16, without a class token."""

    def __init__(self, width: int = 768, heads: int = 12, depth: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.places = nn.Parameter(0.02 * torch.randn(1, 196, width))
        self.blocks = nn.Sequential(*(_Attend(width, heads) for _ in range(depth)), nn.LayerNorm(width))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        logits: Tensor = self.head(self.blocks(tokens + self.places[:, : tokens.shape[1]]).mean(1))
        return logits


class _Next(nn.Module):
    """A 7×7 depthwise convolution, normalised, widened and narrowed; added to what came before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale = nn.Parameter(0.1 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.scale * self.body(self.depthwise(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class ConvNeXtT(nn.Module):
    """ConvNeXt-T."""

    def __init__(self) -> None:
        super().__init__()
        widths = (96, 192, 384, 768)
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), nn.GroupNorm(1, widths[0])]
        for i, depth in enumerate((3, 3, 9, 3)):
            if i:
                layers += [nn.GroupNorm(1, widths[i - 1]), nn.Conv2d(widths[i - 1], widths[i], 2, 2)]
            layers += [_Next(widths[i]) for _ in range(depth)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x).mean((2, 3)))
        return logits


class Mlp(nn.Module):
    """Three layers for rows of 256 numbers, ten classes."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(256, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits


MEMBERS: dict[str, type[nn.Module]] = {
    "residual": Residual, "mobile": Mobile, "dense": Dense, "transformer": Transformer,
}  # fmt: skip


def seeded(name: str, rows: Tensor) -> nn.Module:
    """A member as if it had been trained: statistics of these rows, and outputs that are far from uniform.

    Without them every softmax is 1/1000 and any comparison of outputs passes.
    """
    torch.manual_seed(1 + list(MEMBERS).index(name))
    net = MEMBERS[name]()
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # type: ignore[assignment, unused-ignore]  # the plain mean over what it sees
    with torch.no_grad():
        net.train()(rows)
        net.eval()
        head = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
        head.weight.mul_(3 / net(rows).std(0).mean())
        head.bias.sub_(net(rows).mean(0))
    return net


def save_all(folder: Path) -> None:
    """The weights of every member, with the statistics of the dataset's first rows."""
    with h5py.File(folder / "dataset.h5") as file:
        rows = torch.from_numpy(file["images"][:128])
    for name in MEMBERS:
        save_file(seeded(name, rows).state_dict(), folder / "weights" / f"{name}.safetensors")


if __name__ == "__main__":
    save_all(Path(sys.argv[1]))
