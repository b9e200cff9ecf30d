"""The `wideep` command: an operator's verbs over the collection's playbooks."""

import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from typer import rich_utils

from wideep import __version__, runner
from wideep.console.progress import LiveProgress, Progress, recap
from wideep.console.result import Result
from wideep.eplb.command import app as eplb
from wideep.problems import Problem, RefusedError


@dataclass(frozen=True)
class Verb:
    """A command: the playbook that it runs, and the options of its own (fields of Options)."""

    name: str
    playbook: str
    help: str
    options: tuple[str, ...] = ()


VERBS = (
    Verb("up", "site", "Install, start and verify the deployment. Run again, it changes only what differs."),
    Verb("plan", "plan", "Show who would run what: hosts, ranks, ports. Touches nothing.", ("as_json",)),
    Verb("render", "render", "Write what each host would get as files. Touches no host.", ("output_dir",)),
    Verb("rehearse", "rehearse", "Run the inventory on this machine, hosts and engines simulated. No GPU."),
    Verb("preflight", "preflight", "Check that the hosts can run the deployment. Changes nothing."),
    Verb(
        "changes",
        "changes",
        "Show what runs against what the inventory says, and the steps of `up`. Changes nothing.",
        ("as_json",),
    ),
    Verb("status", "status", "Show what runs, how healthy it is and where its logs are.", ("as_json",)),
    Verb(
        "adopt",
        "adopt",
        "Take over a graph that was applied by hand on Kubernetes; shows what `up` will change.",
    ),
    Verb(
        "bundle",
        "bundle",
        "Pack logs, launches and facts of all hosts, without secrets, into one archive.",
    ),
    Verb("verify", "verify", "Check that every worker is registered and that a request is answered."),
    Verb(
        "restart",
        "restart",
        "Restart replicas (decode-1) and services (frontend@HOST), as a change does it: in order, proved.",
        ("names",),
    ),
    Verb("stop", "stop", "Stop the services and leave them where they are, also after a boot of a host."),
    Verb("start", "start", "Start what was stopped, and verify it. Changes no configuration."),
    Verb("rollback", "rollback", "Go back to the last recorded deployment that is not deployed now."),
    Verb("history", "history", "Show who changed the deployment, when, and how it ended.", ("as_json",)),
    Verb(
        "down",
        "teardown",
        "Stop the deployment and remove it from its hosts; on more than this machine it asks for its name.",
        ("yes",),
    ),
)

EXIT_CODES = {
    0: "all went well",
    1: "an error of wideep itself",
    2: "a task failed on a host",
    3: "the input was refused before any host was touched",
    4: "hosts could not be reached",
    5: "something is not healthy (status)",
    124: "the time of --timeout was over",
    130: "canceled (Ctrl-C, SIGTERM)",
}
_EPILOG = "Exit codes: " + " · ".join(f"{code} {text}" for code, text in EXIT_CODES.items())


@dataclass(frozen=True)
class Options:
    """The options of all verbs; a verb has those of `Verb.options` and all but SPECIAL."""

    inventory: Annotated[
        list[str] | None,
        typer.Option(
            "--inventory",
            "-i",
            help="Inventory directory or file, repeatable. Default: inventories/local, or for an installed "
            "collection that of ansible.cfg.",
        ),
    ] = None
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Directory that gets <host>/<service>/launch.json.")
    ] = Path("rendered")
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")] = False
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Replicas, and services with their hosts.")
    ] = None
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is meant.")] = False
    extra_vars: Annotated[
        list[str] | None,
        typer.Option(
            "--extra-vars",
            "-e",
            metavar="KEY=VALUE|@FILE|JSON",
            help="A variable (true, 3 and lists are typed as in YAML), a YAML file, or a JSON object. "
            "Repeatable; the last one wins.",
        ),
    ] = None
    limit: Annotated[str | None, typer.Option("--limit", "-l", help="Only these hosts or groups.")] = None
    tags: Annotated[str | None, typer.Option("--tags", "-t", help="Only tasks with these tags.")] = None
    skip_tags: Annotated[str | None, typer.Option("--skip-tags", help="Not the tasks with these tags.")] = (
        None
    )
    check: Annotated[bool, typer.Option("--check", help="Say what would change, change nothing.")] = False
    diff: Annotated[bool, typer.Option("--diff", help="Show the differences of changed files.")] = False
    forks: Annotated[int | None, typer.Option("--forks", "-f", min=1, help="Hosts at a time.")] = None
    timeout: Annotated[float | None, typer.Option(help="End the run after so many seconds.", min=0)] = None
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Show Ansible's own output; -vvv for more.")
    ] = 0
    ask_pass: Annotated[
        bool, typer.Option("--ask-pass", "-k", help="Ask for the password of the connections.")
    ] = False
    connection_password_file: Annotated[
        Path | None,
        typer.Option("--connection-password-file", "--conn-pass-file", help="File with that password."),
    ] = None
    ask_become_pass: Annotated[
        bool, typer.Option("--ask-become-pass", "-K", help="Ask for the password of become (sudo).")
    ] = False
    become_password_file: Annotated[
        Path | None,
        typer.Option("--become-password-file", "--become-pass-file", help="File with that password."),
    ] = None
    ask_vault_pass: Annotated[
        bool, typer.Option("--ask-vault-pass", "-J", help="Ask for the vault password.")
    ] = False
    vault_password_file: Annotated[
        Path | None,
        typer.Option("--vault-password-file", "--vault-pass-file", help="File with that password."),
    ] = None
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Plain lines, as without a terminal, not the live view."),
    ] = False


SPECIAL = {"output_dir", "as_json", "yes", "names"}

app = typer.Typer(
    help="Deploy Wide Expert Parallel serving with NVIDIA Dynamo from an inventory.",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"wideep {__version__} (ansible-core {version('ansible-core')})")
        raise typer.Exit


@app.callback()
def _program(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def _command(verb: Verb) -> Callable[..., int]:
    """Return the function of a verb; typer reads the options from its signature."""

    def command(**values: Any) -> int:
        return execute(verb, Options(**values))

    parameters = [
        p
        for p in inspect.signature(Options).parameters.values()
        if p.name not in SPECIAL or p.name in verb.options
    ]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


_models = typer.Typer(
    help="Model cards: what models are made of, for rules and memory.", no_args_is_help=True
)
app.add_typer(_models, name="model")
app.add_typer(eplb, name="eplb")


@_models.command("add", epilog=_EPILOG)
def _model_add(
    path: Annotated[Path, typer.Argument(help="A model directory, or its config.json.")],
    name: Annotated[
        str,
        typer.Option("--name", "-n", help="Name by which wideep_model finds it. Default: the directory's."),
    ] = "",
    inventory: Annotated[
        Path | None,
        typer.Option("--inventory", "-i", help="Inventory that gets it, in models/ beside hosts.yml."),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Directory of wideep_cards_dir that gets models/<name>.yml."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a card of that name.")] = False,
) -> int:
    """Make a model card of a checkpoint's files, and say what was understood."""
    source = inventory or Path(runner.default_inventory()[0])
    place = output_dir or (source if source.is_dir() else source.parent)
    if inventory and not inventory.exists():
        raise RefusedError(
            [Problem("no such inventory", str(inventory), "name a directory or file that is there")]
        )
    from wideep import own_card  # noqa: PLC0415 - a tenth of a second that no other verb should pay

    print(own_card.add(path, name, place, overwrite=overwrite).text)
    return 0


for _verb in VERBS:
    app.command(_verb.name, help=_verb.help, epilog=_EPILOG)(_command(_verb))


def execute(verb: Verb, options: Options) -> int:
    """Run a verb, show it and return the exit code. Raises RefusedError for bad options."""
    console = Console(stderr=options.as_json, highlight=False)
    variables = parse_extra_vars(options.extra_vars or ())
    if "output_dir" in verb.options:
        variables.append({"wideep_output_dir": str(options.output_dir.absolute())})
    if options.as_json:
        variables.append({"wideep_output": "json"})
    if options.names:
        variables.append({"wideep_restart": options.names})
    if options.yes:
        variables.append({"wideep_confirm": True})
    passwords = _ask(options)
    result = _run(verb, options, variables, passwords, console)
    if (asked := _asked(result)) and sys.stdin.isatty() and console.is_terminal:
        console.print(f"\n{asked['question']}", highlight=False, soft_wrap=True)
        answer = typer.prompt(f"type {asked['name']} to go on", default="", show_default=False, err=True)
        if answer.strip() != asked["name"]:
            console.print("not the name: nothing was changed")
            return 3
        variables.append({"wideep_confirm": asked["name"]})
        result = _run(verb, options, variables, passwords, console)
    recap(console, f"wideep {verb.name}", result)
    _report(console, result, as_json=options.as_json)
    return exit_code(result)


def _asked(result: Result) -> Mapping[str, str] | None:
    """Return what a run wants to have confirmed before it changes anything."""
    return next((f.details["wideep_confirm"] for f in result.failures if "wideep_confirm" in f.details), None)


def _run(
    verb: Verb,
    options: Options,
    variables: Sequence[Mapping[str, Any] | Path],
    passwords: Mapping[str, str],
    console: Console,
) -> Result:
    """Run the playbook of a verb and show how it goes."""
    inventory = options.inventory or runner.default_inventory()
    live = console.file.isatty() and not console.is_dumb_terminal and not options.plain
    title = f"wideep {verb.name}"
    view = LiveProgress if live else Progress
    with view(console, f"{title} · {', '.join(inventory)}", verbosity=options.verbose) as progress:
        return runner.run(
            verb.playbook,
            inventory,
            extra_vars=variables,
            limit=options.limit,
            tags=options.tags,
            skip_tags=options.skip_tags,
            check=options.check,
            diff=options.diff,
            verbosity=options.verbose,
            forks=options.forks,
            connection_password=passwords.get("connection"),
            become_password=passwords.get("become"),
            vault_password=passwords.get("vault"),
            connection_password_file=options.connection_password_file,
            become_password_file=options.become_password_file,
            vault_password_file=options.vault_password_file,
            timeout_s=options.timeout,
            on_event=progress,
            record=False,
        )


@app.command("import", epilog=_EPILOG)
def import_source(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Scripts that start workers of SGLang or TensorRT-LLM; or an srt-slurm recipe; or a"
            " DynamoGraphDeployment.",
        ),
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Directory of the new inventory; it must not be there yet.")
    ] = Path("inventories/imported"),
    variant: Annotated[str, typer.Option("--variant", help="Variant of a recipe that has several.")] = "",
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            metavar="POOL=FILE",
            help="A command or engine YAML of prefill, decode or aggregated. Repeatable.",
        ),
    ] = None,
    var: Annotated[
        list[str] | None,
        typer.Option(
            "--var", metavar="NAME=VALUE", help="Value of a shell variable that a script leaves open."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="The model's name, as its repository is called.")
    ] = "",
    model_path: Annotated[str, typer.Option("--model-path", help="Its directory on the hosts.")] = "",
    gpu: Annotated[str, typer.Option("--gpu", help="Hardware card of the hosts (h200-141gb).")] = "",
    release: Annotated[str, typer.Option("--release", help="Dynamo release; default: the newest.")] = "",
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="It is for a benchmark that nobody relies on.")
    ] = False,
) -> int:
    """Make an inventory of a command, recipe or manifest that works elsewhere; then plan it."""
    # Imported late: `wideep --help` need not wait for all engines.
    from wideep.importing import import_from  # noqa: PLC0415

    done = import_from(
        sources or [],
        out,
        roles=_pairs(role or [], "--role"),
        variant=variant,
        given=_pairs(var or [], "--var"),
        model=model,
        model_path=model_path,
        gpu=gpu,
        release=release,
        benchmark=benchmark,
    )
    print(done.table)
    print("\n".join(f"written: {path}" for path in done.files))
    plan = next(verb for verb in VERBS if verb.name == "plan")
    return execute(plan, Options(inventory=[str(out)]))


@app.command("top", epilog=_EPILOG)
def _top(
    inventory: Annotated[
        list[str] | None, typer.Option("--inventory", "-i", help="Inventory, repeatable.")
    ] = None,
    extra_vars: Annotated[
        list[str] | None,
        typer.Option("--extra-vars", "-e", metavar="KEY=VALUE|@FILE|JSON", help="A variable, repeatable."),
    ] = None,
    interval: Annotated[float, typer.Option("--interval", "-n", min=0.2, help="Seconds between looks.")] = 2,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Look once more after the interval, print, end.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same, as JSON.")] = False,
) -> int:
    """Show what runs does just now: state, requests, first token, gap between tokens, KV cache.

    Asked of the processes themselves, from this machine. Without a terminal it looks once.
    """
    from wideep.top.command import show  # noqa: PLC0415 - no other verb needs it

    chosen = inventory or runner.default_inventory()
    result = runner.run(
        "plan",
        chosen,
        extra_vars=[*parse_extra_vars(extra_vars or ()), {"wideep_output": "json"}],
        record=False,
    )
    if result.rc:
        console = Console(stderr=True, highlight=False)
        recap(console, "wideep top", result)
        return exit_code(result)
    show(result.data["wideep_data"], interval, once=once, as_json=as_json)
    return 0


def _pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """Return NAME=VALUE words as a mapping. Raises RefusedError."""
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise RefusedError([Problem(f"'{word}' has no =", option, "write NAME=VALUE") for word in wrong])
    return dict(word.split("=", 1) for word in words)


def _ask(options: Options) -> dict[str, str]:
    """Ask for the passwords, as Ansible does: that of become may be that of the connections."""
    given: dict[str, str] = {}
    if options.ask_pass:
        given["connection"] = _prompt("SSH password")
    if options.ask_become_pass and options.ask_pass:
        same = given["connection"]
        given["become"] = _prompt("BECOME password [that of SSH]", default=same)
    elif options.ask_become_pass:
        given["become"] = _prompt("BECOME password")
    if options.ask_vault_pass:
        given["vault"] = _prompt("Vault password")
    return given


def _prompt(text: str, default: str | None = None) -> str:
    answer: str = typer.prompt(text, default=default, show_default=False, hide_input=True, err=True)
    return answer


def _report(console: Console, result: Result, *, as_json: bool) -> None:
    """Print what the playbook published, as it is."""
    if as_json:
        if "wideep_data" in result.data:
            print(json.dumps(result.data["wideep_data"], indent=2))
        return
    if text := result.data.get("wideep_summary"):
        console.file.write(f"\n{str(text).rstrip()}\n")
    console.file.flush()


def exit_code(result: Result) -> int:
    """Return the exit code for a result; EXIT_CODES says what each means."""
    if result.status in {"timeout", "canceled"} or result.rc == 0:
        return result.rc
    if result.failures and all(failure.refused for failure in result.failures):
        return 1 if result.rc == 250 else 3  # 250: an exception inside Ansible
    others = [failure for failure in result.failures if not failure.unreachable]
    if others and all("wideep_unhealthy" in failure.details for failure in others):
        return 5
    if others:
        return 2
    return 4 if result.failures else 1


def parse_extra_vars(values: Sequence[str]) -> list[Mapping[str, Any] | Path]:
    """Return mappings and files in their order. Raises RefusedError with all that is wrong."""
    parsed: list[Mapping[str, Any] | Path] = []
    problems: list[Problem] = []
    for value in values:
        key, equals, text = value.partition("=")
        if value.startswith("@"):
            parsed.append(Path(value[1:]).expanduser())
        elif value.startswith("{"):
            try:
                parsed.append(json.loads(value))
            except ValueError as error:
                problems.append(Problem(f"not a JSON object: {error}", "-e {…}", "write it as JSON"))
        elif equals and key.isidentifier():
            parsed.append({key: _typed(text)})
        else:
            remedy = "write -e key=value, -e @file.yml or -e '{\"key\": 1}'"
            problems.append(Problem("not a variable", f"-e {key}", remedy))
    if problems:
        raise RefusedError(problems)
    return parsed


def _typed(text: str) -> Any:
    """Return true, 8, 0.5, null and flow lists and mappings as their types; all else as text.

    A number stays text unless it prints back as written: 1.10 is a version, 0644 a mode.
    """
    if not re.match(r"[\[{]|-?\d+(\.\d+)?$|(true|false|yes|no|on|off|null|~)$", text, re.IGNORECASE):
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return (
        text
        if isinstance(value, int | float) and not isinstance(value, bool) and str(value) != text
        else value
    )


def main() -> None:
    """Entry point of the command; ends the process."""
    try:
        code = app(prog_name="wideep", standalone_mode=False)
    except typer.TyperException as error:  # an unknown option or verb
        rich_utils.rich_format_error(error)  # type: ignore[arg-type]  # it takes all of them
        code = 3
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except RefusedError as error:
        print(f"wideep: {error}", file=sys.stderr)
        code = 3
    sys.exit(code)
