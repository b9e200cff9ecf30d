"""Engines: one folder each, one interface (see `base`)."""

from __future__ import annotations

from wideep.engines.base import Engine
from wideep.engines.mocker.engine import Mocker
from wideep.engines.sglang.engine import Sglang
from wideep.engines.trtllm.engine import Trtllm

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Mocker(), Sglang(), Trtllm())}
