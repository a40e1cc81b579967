"""The product itself as `up` runs it: no stand-in, settings of its own, an exchange of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from quantum.exchange.paper.auth import PaperKeys
from quantum.exchange.paper.process import PaperExchangeProcess
from tests.stand_ins.running import Place, free_port


class Product(Place):
    """The product in a folder of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.paper_port = free_port()

    def up(self, **env: str) -> subprocess.Popen[str]:
        return self.start(
            "up",
            DJANGO_SETTINGS_MODULE="quantum.settings",
            APPLY_MODE="paper",
            DRY_RUN_HOST="paper",
            PAPER_URL=f"http://127.0.0.1:{self.paper_port}",
            **env,
        )

    def exchange(self) -> PaperExchangeProcess:
        """Its control plane; the process itself belongs to `up`, and its keys lie where `up` put them."""
        lines = (self.directory / "quantum.env").read_text().splitlines()
        made = dict(line.split("=", 1) for line in lines if line.startswith("BINANCE_"))
        keys = PaperKeys(
            *(made[f"BINANCE_{use}_{part}"] for use in ("READ", "TRADE") for part in ("KEY", "SECRET"))
        )
        return PaperExchangeProcess(data_path=self.directory / "unused", keys=keys, port=self.paper_port)
