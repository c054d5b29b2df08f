"""Somebody's file of models: twelve shapes, most of them for ten classes of 3x8x8 images."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


class Plain(nn.Module):
    def __init__(self, channels=3, classes=10, width=4):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width * 4, classes)

    def forward(self, x):
        return self.head(F.adaptive_avg_pool2d(self.features(x), 2).flatten(1))


class Single(Plain):
    def __init__(self):
        super().__init__(classes=1)

    def forward(self, x):
        return super().forward(x)[:, 0]


class Tupled(Plain):
    def forward(self, x):
        return self.features(x).mean((2, 3)), super().forward(x)


class Mapped(Plain):
    def forward(self, x):
        return {"main": super().forward(x), "aux": super().forward(x) / 2}


class Grey(Plain):
    def __init__(self):
        super().__init__(channels=1, classes=3)


class Dropped(Plain):
    def forward(self, x):
        return super().forward(F.dropout(x, 0.2, training=True))


class Resized(Plain):
    def forward(self, x):
        side = int(torch.randint(7, 11, ()))
        return super().forward(F.interpolate(x, (side, side)))


class Normalising(Plain):
    def forward(self, x):
        return super().forward((x - 0.5) / 0.25)


def double():
    return Plain().double()


def made(width, classes=10):
    return Plain(width=width, classes=classes)


_asked = Plain().eval()


def labels(images):
    with torch.no_grad():
        return _asked(torch.from_numpy(images)).argmax(1).numpy()


def shares(images):
    with torch.no_grad():
        return _asked(torch.from_numpy(images)).softmax(1).numpy()


class Fails(Plain):
    def forward(self, x):
        raise KeyError("no such layer")


def quantised(x):
    return (x * 15).round() / 15


def shifted(x):
    return torch.roll(x, int(torch.randint(3, ())), 3)


number = 3
