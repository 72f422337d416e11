"""Train the handwritten-digit model that ships with cpuserve, and write its IR, its figures and its card.

Run ``python ir_models/digits/recipe.py``: one thread, some five minutes, no network. It must read nothing but
the digits inside scikit-learn and shapes.txt.
"""

from __future__ import annotations

import no_telemetry  # noqa: F401  # before OpenVINO

from cpuserve.serving.openvino_core import openvino_core

# isort: split
import argparse
import functools
import json
import time
import timeit
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import torch
from sklearn.datasets import load_digits
from torch import nn

HERE = Path(__file__).resolve().parent
SEED = 20
SIDE = 96  # the model's input, pixels a side
CROP = 28  # what the network sees after the front end
HELD_OUT = 360  # of the 1797 originals
CANVASES = (28, 32, 40, 56, 64, 80, 96, 112, 140, 200, 280)
ENLARGE = {"cubic": cv2.INTER_CUBIC, "linear": cv2.INTER_LINEAR, "blocky": cv2.INTER_NEAREST}
OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
FACES = range(8)  # cv2.FONT_HERSHEY_*, the stroke fonts
Array = np.ndarray[Any, Any]
Rng = np.random.Generator


def stroke(text: str) -> Array:
    """Points along one stroke, [n, 2], dense enough to be bent later; the box is 1 high."""
    kind, *words = text.split()
    v = np.array(words, float) / 100
    if kind == "e":
        start, end = v[4:] * 100 if len(v) > 4 else (-90, 275)
        t = np.deg2rad(np.linspace(start, end, 32))
        return np.stack([v[0] + v[2] * np.cos(t), v[1] + v[3] * np.sin(t)], 1)
    p = v.reshape(-1, 2)
    if kind == "l":
        return np.concatenate([*(np.linspace(a, b, 10)[:-1] for a, b in pairwise(p)), p[-1:]])
    p = np.concatenate([p[:1], p, p[-1:]])  # a Catmull-Rom spline
    t = np.linspace(0, 1, 9)[:-1, None]
    parts = [
        b + 0.5 * ((c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]
    return np.concatenate([*parts, p[-1:]])


def shapes(which: str) -> dict[int, list[list[Array]]]:
    """The "train" or "test" shapes of each digit, each a list of strokes."""
    table: dict[int, list[list[Array]]] = {digit: [] for digit in range(10)}
    for row in (HERE / "shapes.txt").read_text().splitlines():
        name, digit, strokes = row.split(maxsplit=2)
        if name == which:
            table[int(digit)].append([stroke(part) for part in strokes.split(";")])
    return table


TRAIN, TEST = shapes("train"), shapes("test")


def ink(strokes: list[Array], side: int, pen: float, kind: int = cv2.LINE_AA) -> Array:
    """A mask, 0..255, of strokes given in pixels."""
    mask = np.zeros((side, side), np.uint8)
    points = [np.round(s * 16).astype(np.int32) for s in strokes]
    return cv2.polylines(mask, points, False, 255, max(1, round(pen)), kind, 4)


def matrix(rng: Rng) -> Array:
    """A small random rotation, shear and change of proportions."""
    a = np.deg2rad(np.clip(rng.normal(0, 8), -17, 17))
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return turn @ np.array([[rng.uniform(0.75, 1.3), rng.normal(0, 0.12)], [0, 1]])


def drawn(digit: int, side: int, rng: Rng) -> Array:
    """A mask of one of the shapes, bent, with a pen of random width, somewhere on the canvas."""
    shape = TRAIN[digit][rng.integers(len(TRAIN[digit]))]
    wave, phase, bend = rng.normal(0, 0.9, (2, 2)), rng.uniform(0, 6.3, 2), rng.uniform(0, 0.04)
    m = matrix(rng)
    strokes = [s + rng.normal(0, 0.012, 2) for s in shape]
    strokes = [(s + bend * np.sin(6.3 * (s @ wave) + phase)) @ m.T for s in strokes]
    every = np.concatenate(strokes)
    low, high = every.min(0), every.max(0)
    extent = side * rng.uniform(0.35, 0.96)
    pen = max(1.0, min(side * rng.uniform(0.02, 0.15), extent * rng.uniform(0.07, 0.25)))
    scale = max(extent - pen, 0.6 * extent) / (high - low).max()
    room = np.maximum(side - (high - low) * scale - pen, 0)
    offset = pen / 2 + room * np.clip(rng.normal(0.5, 0.25, 2), 0, 1)
    shake = rng.uniform(0, 0.006) * side
    strokes = [(s - low) * scale + offset + rng.normal(0, shake, s.shape) for s in strokes]
    kind = cv2.LINE_AA if rng.random() < 0.7 else cv2.LINE_8
    mask, style = ink(strokes, side, pen, kind), rng.random()
    if style < 0.12:  # the balls that types have at the ends of their strokes
        ends = [np.stack([s[-rng.integers(2)]] * 2) for s in strokes]
        mask |= ink(ends, side, pen * rng.uniform(1.3, 2.0), kind)
    elif style < 0.25:  # a broad nib: its width depends on the direction
        nib, mask = rng.uniform(0, 3.14), np.zeros((side, side), np.uint8)
        for a, b in (pair for s in strokes for pair in pairwise(s)):
            slant = np.arctan2(b[1] - a[1], b[0] - a[0]) - nib
            mask |= ink([np.stack([a, b])], side, pen * (0.45 + 0.55 * abs(np.sin(slant))), kind)
    return mask


def enlarged(image: Array, side: int, how: int) -> Array:
    """One 8x8 original as a picture that fills the canvas, 0..255."""
    return cv2.resize(np.round(image * (255 / 16)).astype(np.uint8), (side, side), interpolation=how)


def placed(image: Array, side: int, rng: Rng) -> Array:
    """A mask of one 8x8 original, its edges sharpened and its strokes thinned or thickened, put somewhere."""
    how = int(rng.choice([*ENLARGE.values()], p=(0.6, 0.3, 0.1)))
    big = cv2.resize(np.pad(image / 16, 1).astype(np.float32), (80, 80), interpolation=how)
    if rng.random() < 0.7:
        big = (big - rng.uniform(0.3, 0.62)) * rng.uniform(1.5, 8) + 0.5
    m = matrix(rng)
    corners = np.array([[-32, -32], [32, -32], [32, 32], [-32, 32]]) @ m.T
    low, high = corners.min(0), corners.max(0)
    scale = side * rng.uniform(0.4, 1.05) / (high - low).max()
    room = side - (high - low) * scale
    offset = room * np.clip(rng.normal(0.5, 0.25, 2), 0, 1) - low * scale
    warp = np.column_stack([m * scale, offset - m @ (39.5, 39.5) * scale])
    mask = cv2.warpAffine(np.clip(big, 0, 1), warp, (side, side), flags=cv2.INTER_LINEAR)
    return np.round(mask * 255).astype(np.uint8)


def coloured(mask: Array, rng: Rng) -> Array:
    """The mask as ink on a background: colours, both polarities, shade, noise, blur, JPEG; RGB uint8."""
    side = len(mask)
    if rng.random() < 0.4:  # plain black and white, either way round
        paper = np.full(3, 255.0 * rng.integers(2))
        ink = 255 - paper
    else:
        hues = 1 if rng.random() < 0.4 else 3
        paper = ink = np.zeros(3)
        while np.abs(paper - ink).max() < 70:
            paper, ink = np.ones(3) * rng.uniform(0, 255, (2, hues))
    alpha = mask[..., None].astype(np.float32) / 255
    if rng.random() < 0.3:
        alpha = cv2.GaussianBlur(alpha, (0, 0), side * rng.uniform(0.004, 0.03))[..., None]
    picture = (paper + (ink - paper) * alpha).astype(np.float32)
    contrast = float(np.abs(paper - ink).max())
    if rng.random() < 0.25:  # a shadow across the paper
        y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
        slope = rng.normal(0, 0.3, 2) * contrast
        picture += (x * slope[0] + y * slope[1])[..., None]
    if rng.random() < 0.4:  # grain, of pixels or coarser
        cells = max(4, round(side / rng.uniform(1, 5)))
        planes = 3 if rng.random() < 0.3 else 1
        grain = rng.normal(0, rng.uniform(0.02, 0.2) * contrast, (cells, cells, planes))
        picture += cv2.resize(grain.astype(np.float32), (side, side)).reshape(side, side, -1)
    out = np.clip(np.round(picture), 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        code = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 96))])[1]
        out = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))
    return out


def as_input(picture: Array) -> Array:
    """What the server does to a decoded picture."""
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def glyph(digit: int, side: int, cover: float, width: float, face: int) -> Array:
    """A mask of the digit in one of OpenCV's stroke fonts."""
    mask, pen = np.zeros((side, side), np.uint8), max(1, round(width * side))
    size = (cover * side - pen) / cv2.getTextSize("8", face, 1, 1)[0][1]
    w, h = cv2.getTextSize(str(digit), face, size, pen)[0]
    at = ((side - w) // 2, (side + h) // 2)
    return cv2.putText(mask, str(digit), at, face, size, 255, pen, cv2.LINE_AA)


def drawn_tests() -> dict[str, tuple[Array, Array]]:
    """Test pictures of TEST shapes and of stroke fonts, plain and in the colours of training."""
    rng = np.random.default_rng(SEED + 3)
    sets: dict[str, tuple[list[Array], list[int]]] = {}
    for side in (28, 56, 112, 280):
        for cover in (0.45, 0.65, 0.9):
            for width in (0.03, 0.05, 0.08, 0.11, 0.14):
                for digit in range(10):
                    masks = {}
                    if width <= 0.2 * cover:  # a pen wider than a fifth of the digit closes its loops
                        unit, free = cover * side - max(1, width * side), (1 - cover) * side / 2
                        corner = (side - unit) / 2 + free * rng.uniform(-0.8, 0.8, 2)
                        masks["shapes"] = ink([s * unit + corner for s in TEST[digit][0]], side, width * side)
                    if width <= 0.12 * cover:  # and the fonts have serifs
                        masks["stroke fonts"] = glyph(digit, side, cover, width, int(rng.choice(FACES)))
                    for name, mask in masks.items():
                        plain = cv2.cvtColor(mask, cv2.COLOR_GRAY2RGB)
                        looks = {"black on white": 255 - plain, "white on black": plain}
                        for look, picture in (looks | {"in colour, noisy": coloured(mask, rng)}).items():
                            pictures, labels = sets.setdefault(f"drawn, {name}, {look}", ([], []))
                            pictures.append(as_input(picture))
                            labels.append(digit)
    return {name: (np.stack(p), np.array(y)) for name, (p, y) in sets.items()}


def split() -> tuple[Array, Array, Array, Array]:
    """Originals to train on and held out, with labels; fixed before any augmentation."""
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.images))
    images, labels = digits.images[order], digits.target[order]
    return images[HELD_OUT:], labels[HELD_OUT:], images[:HELD_OUT], labels[:HELD_OUT]


def augmented(images: Array, labels: Array, count: int, synthetic: float, *seed: int) -> tuple[Array, Array]:
    """``count`` training pictures, a share of them synthetic drawings."""
    rng = np.random.default_rng(seed)
    x, y = np.empty((count, SIDE, SIDE, 3), np.uint8), np.empty(count, np.int64)
    for i in range(count):
        side = int(rng.choice(CANVASES))
        n = rng.integers(len(images))
        y[i] = labels[n]
        if rng.random() < synthetic:
            y[i] = rng.integers(10)
            mask = drawn(int(y[i]), side, rng)
        elif rng.random() < 0.15:
            mask = enlarged(images[n], side, int(rng.choice([*ENLARGE.values()])))
        else:
            mask = placed(images[n], side, rng)
        x[i] = as_input(coloured(mask, rng))
    return x, y


class FrontEnd(nn.Module):
    """Find the ink: RGB pictures to ``CROP``-sized maps, ink 1 and background 0, centred and of one size.

    Nothing here is learned. Colours are projected on their principal axis; its sign is that of the
    third moment, since ink is the minority. Where there are two levels the moments tell them too:
    skew/2 -+ sqrt(1 + skew^2/4).
    """

    def __init__(self) -> None:
        super().__init__()
        half = SIDE // 2
        ramp = (torch.arange(half) + 0.5) * (2 / half) - 1
        self.register_buffer("x", ramp.repeat(half)[None, None])
        self.register_buffer("y", ramp.repeat_interleave(half)[None, None])
        ramp = (torch.arange(CROP) + 0.5) * (2 / CROP) - 1
        self.register_buffer("grid", torch.stack(torch.meshgrid(ramp, ramp, indexing="xy"), -1)[None])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        small = nn.functional.avg_pool2d(image.permute(0, 3, 1, 2) * (1 / 255), 2)
        pixels = small.flatten(2)
        pixels = pixels - pixels.mean(2, keepdim=True)
        third = (pixels * (pixels * pixels).sum(1, keepdim=True)).mean(2, keepdim=True)
        axes = pixels @ pixels.transpose(1, 2)
        for _ in range(3):
            axes = axes / ((axes * axes).sum((1, 2), keepdim=True).sqrt() + 1e-6)
            axes = axes @ axes
        axis = axes @ (third / ((third * third).sum(1, keepdim=True).sqrt() + 1e-7))
        z = axis.transpose(1, 2) @ pixels
        z = z / ((z * z).mean(2, keepdim=True).sqrt() + 1e-6)
        skew = (z * z * z).mean(2, keepdim=True)
        gap = (1 + skew * skew * 0.25).sqrt()
        ink = ((z - skew * 0.5 + gap) / (gap * 2)).clamp(0, 1)
        plane = ink.view(-1, 1, SIDE // 2, SIDE // 2)
        smooth = nn.functional.avg_pool2d(plane, 3, 1, 1).flatten(2)  # so that grain does not count
        weight = (smooth - smooth.amax(2, keepdim=True) * 0.5).clamp(min=0)
        weight = weight / (weight.sum(2, keepdim=True) + 1e-6)
        x, y = (weight * self.x).sum(2, keepdim=True), (weight * self.y).sum(2, keepdim=True)
        wide, high = ((weight * (a - b) ** 2).sum(2) for a, b in ((self.x, x), (self.y, y)))
        reach = (torch.maximum(wide, high).sqrt() * 2 + 0.03).clamp(min=0.15)
        grid = self.grid * reach[..., None, None] + torch.cat([x, y], 2)[:, None]
        return nn.functional.grid_sample(plane, grid, align_corners=False)


def network() -> nn.Sequential:
    """The classifier on the front end's maps; logits."""

    def block(cin: int, cout: int, size: int = 3) -> list[nn.Module]:
        return [nn.Conv2d(cin, cout, size, padding=size // 2, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]

    return nn.Sequential(
        *block(1, 16, 5), nn.MaxPool2d(2), *block(16, 32), *block(32, 32), nn.MaxPool2d(2),
        *block(32, 64), *block(64, 64), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 9, 10),
    )  # fmt: skip


def crops(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network is trained on: training pictures as the front end cuts them out, and their digits."""
    images, labels, _, _ = split()
    front, x, y = FrontEnd(), [], []
    for part in range(count // 500):
        pictures, digits = augmented(images, labels, 500, 0.5, SEED + 1, part)
        with torch.no_grad():
            x.append(front(torch.from_numpy(pictures).float()))
        y.append(torch.from_numpy(digits))
    return torch.cat(x), torch.cat(y)


def fit(net: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int, rate: float = 4e-3) -> None:
    """Train the network on crops; ``rate`` is the highest learning rate of the one cycle."""
    net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    rounds = len(x) // 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * rounds)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(x))[: rounds * 128].view(rounds, 128):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x[rows].to(memory_format=torch.channels_last)), y[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1} of {epochs}: loss {total / rounds:.4f}", flush=True)
    net.eval().to(memory_format=torch.contiguous_format)


def export(net: nn.Module, folder: Path) -> Path:
    """Write ``1/model.xml`` and ``1/model.bin`` with the metadata the server reads."""
    whole, example = nn.Sequential(FrontEnd(), net, nn.Softmax(1)), torch.rand(1, SIDE, SIDE, 3)
    model = ov.convert_model(whole.eval(), example_input=example, input=[-1, SIDE, SIDE, 3])
    model.inputs[0].set_names({"image"})
    model.inputs[0].node.set_friendly_name("image")
    model.inputs[0].node.set_layout(ov.Layout("NHWC"))
    model.outputs[0].set_names({"probabilities"})
    model.outputs[0].node.set_friendly_name("probabilities")
    info = {"model_type": "Classification", "labels": "0 1 2 3 4 5 6 7 8 9", "layout": "NHWC"}
    info |= {"resize_type": "standard", "interpolation_mode": "LINEAR"}
    info |= {"reverse_input_channels": "True", "input_dtype": "u8"}
    for key, value in info.items():
        model.set_rt_info(value, ["model_info", key])
    model.set_rt_info("Apache-2.0", ["cpuserve", "licence"])
    model.set_rt_info("one handwritten digit, 0 to 9", ["cpuserve", "description"])
    path = folder / "1" / "model.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(model, path, compress_to_fp16=True)
    return path


@functools.cache
def test_sets() -> dict[str, tuple[Array, Array]]:
    """Pictures that nothing is trained on, as the server hands them to the model, and their digits."""
    _, _, images, labels = split()
    sets: dict[str, tuple[Array, Array]] = {}
    for name, how in ENLARGE.items():
        for side in (28, 64, 140, 280):
            masks = [cv2.cvtColor(enlarged(i, side, how), cv2.COLOR_GRAY2RGB) for i in images]
            both = np.stack([as_input(m) for m in masks] + [as_input(255 - m) for m in masks])
            sets[f"clean, {name}, {side} px, both polarities"] = both, np.tile(labels, 2)
    sets["augmented"] = augmented(images, labels, 10 * HELD_OUT, 0, SEED + 2)
    return sets | drawn_tests()


def accuracy(path: Path, every: int = 1) -> dict[str, Any]:
    """Accuracy of the IR in percent by test set, of each nth picture."""
    compiled = openvino_core().compile_model(path, "CPU", OPTIONS)
    right = {}
    for name, (x, y) in test_sets().items():
        told = [compiled(part.astype(np.float32))[0].argmax(1) for part in np.array_split(x[::every], 12)]
        right[name] = np.concatenate(told) == y[::every]

    def percent(prefix: str) -> float:
        chosen = [r for name, r in right.items() if name.startswith(prefix)]
        return round(100 * float(np.concatenate(chosen).mean()), 2)

    return {
        "held_out_accuracy": percent("clean"),
        "held_out_accuracy_worst_set": min(percent(n) for n in right if n.startswith("clean")),
        "held_out_accuracy_augmented": percent("augmented"),
        "drawn_accuracy": percent("drawn"),
        "sets": {n: {"pictures": len(r), "accuracy": percent(n)} for n, r in right.items()},
    }


def size(path: Path) -> int:
    """Bytes of the IR."""
    return sum(path.with_suffix(suffix).stat().st_size for suffix in (".xml", ".bin"))


def measure(path: Path) -> dict[str, Any]:
    """Accuracy, size and speed of the IR, run the way the server runs it."""
    request = openvino_core().compile_model(path, "CPU", OPTIONS).create_infer_request()
    one = test_sets()["augmented"][0][:1].astype(np.float32)
    times = timeit.repeat(lambda: request.infer([one]), repeat=500, number=1)
    return {
        **accuracy(path),
        "bytes": size(path),
        "batch_1_ms_one_thread": round(1000 * float(np.median(times)), 3),
        "openvino": ov.get_version().split("-")[0],
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=100_000, help="training pictures")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=HERE, help="where 1/, metrics.json and MODEL_CARD.md are")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    start = time.perf_counter()
    x, y = crops(args.samples)
    print(f"{args.samples} pictures after {time.perf_counter() - start:.0f} s", flush=True)
    net = network()
    fit(net, x, y, args.epochs)
    took = round(time.perf_counter() - start)
    metrics = measure(export(net, args.out))
    metrics |= {"training_pictures": args.samples, "epochs": args.epochs, "seed": SEED, "training_s": took}
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    table = ["| test set | pictures | right |", "|---|---:|---:|"]
    table += [f"| {n} | {v['pictures']} | {v['accuracy']:.2f} % |" for n, v in metrics["sets"].items()]
    card = args.out / "MODEL_CARD.md"
    before, _, rest = card.read_text().partition("<!-- figures -->\n")
    after = rest.partition("<!-- end -->")[2]
    card.write_text("\n".join([before + "<!-- figures -->", *table, "<!-- end -->" + after]))
    print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    main()
