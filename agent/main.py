"""`trigpoint-agent`: the command. Reads flags and configuration, builds the source, runs until SIGTERM or SIGINT.

Exit codes: 0 stopped by a signal, 2 unusable configuration or usage.
"""

import asyncio
import json
import random
import signal
from pathlib import Path
from typing import Annotated, assert_never

import typer

from agent.backoff import Backoff
from agent.config import AgentConfig, ConfigError, check_files, load_config
from agent.memory import Memory, MemoryFileError
from agent.runner import Runner
from agent.sources.base import Source
from agent.sources.emulator import EmulatorSource
from agent.telemetry import configure_logging, logger

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Attests the accelerators of this host to a Trigpoint server."""


@app.command()
def run(
    *,
    config: Annotated[Path | None, typer.Option(help="TOML file; flags win over it.")] = None,
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The server.")] = None,
    host_id: Annotated[str | None, typer.Option(help="This host's name at the server.")] = None,
    source: Annotated[str | None, typer.Option(help="Which kind of devices: emulator.")] = None,
    socket: Annotated[Path | None, typer.Option(help="Unix socket of the emulated board.")] = None,
    ca: Annotated[Path | None, typer.Option(help="PEM of the CA of the server's certificate.")] = None,
    cert: Annotated[Path | None, typer.Option(help="PEM of this agent's certificate.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM of its private key.")] = None,
    plaintext: Annotated[bool | None, typer.Option("--plaintext", help="No TLS; loopback alone.")] = None,
    plaintext_role: Annotated[str | None, typer.Option(help="With --plaintext: agent/LICENSEE/NAME.")] = None,
    state: Annotated[Path | None, typer.Option(help="File that keeps the largest checkpoint.")] = None,
    verbose: Annotated[bool, typer.Option(help="Log more.")] = False,
) -> None:
    """Run until stopped. Prints {"ready": true} once the stream is up; logs JSON to stderr."""
    flags: dict[str, dict[str, object] | object] = {
        "host_id": host_id,
        "source": source,
        "server": {
            "target": server,
            "ca": ca,
            "cert": cert,
            "key": key,
            "plaintext": plaintext,
            "plaintext_role": plaintext_role,
        },
        "emulator": {"socket": socket},
        "state": state,
    }
    try:
        tree = load_config(config, flags)
        check_files(tree.server)
        memory = Memory.open(tree.state)
    except (ConfigError, MemoryFileError) as error:
        typer.echo(f"trigpoint-agent: {error}", err=True)
        raise typer.Exit(2) from error
    configure_logging(verbose=verbose)
    asyncio.run(_serve(tree, memory))


def make_source(config: AgentConfig) -> Source:
    """Return the configured source."""
    match config.source:
        case "emulator":
            assert config.emulator is not None  # config.py has checked it
            return EmulatorSource(config.emulator.socket)
        case other:
            assert_never(other)


async def _serve(config: AgentConfig, memory: Memory) -> None:
    log = logger(config.host_id)
    source = make_source(config)
    backoff = Backoff(config.backoff.first_s, config.backoff.longest_s, random.SystemRandom())
    runner = Runner(config, source, backoff, log, memory, on_up=_ReadyLine())
    task = asyncio.create_task(runner.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")
    finally:
        await source.close()


class _ReadyLine:
    """Prints the ready line the first time it is called."""

    def __init__(self) -> None:
        self._printed = False

    def __call__(self) -> None:
        if not self._printed:
            self._printed = True
            typer.echo(json.dumps({"ready": True}))


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="trigpoint-agent")


if __name__ == "__main__":
    main()
