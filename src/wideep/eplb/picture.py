"""A picture of balance before and after, as SVG: max/mean of each layer, and the load of each GPU."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from wideep.eplb.balance import Balance

_BEFORE, _AFTER, _INK, _LINE = "#c2410c", "#0369a1", "#1f2937", "#d1d5db"
_LEFT, _WIDTH, _BARS, _TOP = 56, 960, 180, 96
# Load over the mean, up to which a colour goes: blue is less than the mean, red more.
_SCALE = (
    (0.5, "#2166ac"),
    (0.8, "#67a9cf"),
    (0.95, "#d1e5f0"),
    (1.05, "#f3f4f6"),
    (1.25, "#fddbc7"),
    (1.75, "#ef8a62"),
    (float("inf"), "#b2182b"),
)


def picture(title: str, before: Balance, after: Balance) -> str:
    """Return an SVG that needs nothing else: bars by layer above, one cell for each layer and GPU below."""
    row = 7
    heat = _TOP + _BARS + 92
    height = heat + row * len(before.layers) + 66
    inner = (_WIDTH - _LEFT - 60) // 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
        f' font-size="12" fill="{_INK}" role="img" aria-label="{escape(title, quote=True)}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        _text(_LEFT, 26, title, size=16),
        _text(
            _LEFT,
            48,
            f"busiest GPU / mean, all layers: {before.overall:.2f} before, {after.overall:.2f} after",
            size=13,
        ),
        *_key(_LEFT, 66),
        *_bars(before, after),
        *_heat("before", before, left=_LEFT, top=heat, width=inner, row=row),
        *_heat("after", after, left=_LEFT + inner + 40, top=heat, width=inner, row=row),
        *_scale(_LEFT, height - 34),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, words: str, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}">{escape(words)}</text>'


def _key(x: int, y: int) -> list[str]:
    return [
        f'<rect x="{x}" y="{y}" width="12" height="12" fill="{_BEFORE}"/>',
        _text(x + 18, y + 10, "before"),
        f'<rect x="{x + 80}" y="{y}" width="12" height="12" fill="{_AFTER}"/>',
        _text(x + 98, y + 10, "after"),
    ]


def _bars(before: Balance, after: Balance) -> list[str]:
    """Two bars for each layer, from 1 (perfect) up."""
    top = max(1.1, *before.ratios, *after.ratios)
    width = _WIDTH - _LEFT - 20
    step = width / len(before.layers)
    bottom = _TOP + _BARS
    parts = []
    for tick in _ticks(top):
        y = bottom - _BARS * (tick - 1) / (top - 1)
        parts.append(f'<path d="M{_LEFT} {y:.1f}h{width}" stroke="{_LINE}"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{tick:g}", anchor="end"))
    every = max(1, len(before.layers) // 12)
    for place, layer in enumerate(before.layers):
        x = _LEFT + step * place
        for ratio, colour, shift in (
            (before.ratios[place], _BEFORE, 0.1),
            (after.ratios[place], _AFTER, 0.5),
        ):
            high = _BARS * (ratio - 1) / (top - 1)
            parts.append(
                f'<rect x="{x + step * shift:.1f}" y="{bottom - high:.1f}" width="{step * 0.4:.1f}"'
                f' height="{high:.1f}" fill="{colour}"><title>layer {layer}: {ratio:.2f}</title></rect>'
            )
        if place % every == 0:
            parts.append(_text(x + step / 2, bottom + 16, str(layer), anchor="middle"))
    parts.append(_text(_LEFT, bottom + 34, "layer"))
    return parts


def _ticks(top: float) -> Sequence[float]:
    step = next(size for size in (0.1, 0.25, 0.5, 1, 2, 5, 10, 50, 1000) if (top - 1) / size <= 6)
    return [1 + step * n for n in range(int((top - 1) / step) + 1)]


def _heat(title: str, balance: Balance, *, left: int, top: int, width: int, row: int) -> list[str]:
    gpus = balance.gpus.shape[1]
    cell = width / gpus
    parts = [_text(left, top - 22, f"{title}: load of GPU 0 to {gpus - 1} (across) in each layer (down)")]
    parts += [
        _text(left - 6, top + row * place + row, str(layer), size=9, anchor="end")
        for place, layer in enumerate(balance.layers)
        if place % 5 == 0
    ]
    shares = balance.gpus / balance.gpus.mean(axis=1, keepdims=True)
    for place, loads in enumerate(shares):
        y, x = top + row * place, 0
        colours = [next(colour for limit, colour in _SCALE if share <= limit) for share in loads]
        while x < gpus:  # neighbours of a colour are one rectangle
            end = x
            while end < gpus and colours[end] == colours[x]:
                end += 1
            parts.append(
                f'<rect x="{left + cell * x:.1f}" y="{y}" width="{cell * (end - x):.1f}" height="{row}"'
                f' fill="{colours[x]}"/>'
            )
            x = end
    return parts


def _scale(x: int, y: int) -> list[str]:
    parts = [_text(x, y + 11, "load / mean, up to")]
    for place, (limit, colour) in enumerate(_SCALE):
        left = x + 116 + place * 74
        label = f"{limit:g}" if limit < float("inf") else "more"
        parts.append(
            f'<rect x="{left}" y="{y}" width="14" height="14" fill="{colour}" stroke="{_LINE}"/>'
            + _text(left + 20, y + 11, label)
        )
    return parts
