"""The command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .head import Head
from .member import Member


def main() -> None:
    """Be the head or another rank, as the launch says."""
    words = sys.argv[1:]
    if len(words) < 2 or words[0] != "--launch" or words[2:3] not in ([], ["--"]):
        sys.exit("usage: rank.pyz --launch LAUNCH_JSON [-- COMMAND...]")
    launch = json.loads(Path(words[1]).read_text())
    config = {**launch["gang"], "service": launch["name"], "cleanup": launch["cleanup"]}
    (Member if config["rank"] else Head)(config, words[3:]).run()


if __name__ == "__main__":
    main()
