"""`hefjoin trigger`: have a spec built by the service."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from flows.door import GATE_FAILED, INTERRUPTED, command

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from hefjoin.spec import BuildSpec


@command
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@click.option("--store", metavar="URI", help="Where the build goes.  [default: the deployment's]")
@click.option("--sdk", type=click.Choice(["auto", "dfc", "emulator"]), help="Compiler.  [default: the deployment's]")
@click.option("--device", type=click.Choice(["inline", "pool"]),
              help="Measure where it is built, or on a chip of the pool.  [default: the deployment's]")  # fmt: skip
@click.option("--force", is_flag=True, help="Build every stage anew, though nothing changed.")
@click.option(
    "--key", metavar="TEXT", help="Idempotency key: the same key twice is one run.  [default: one of its own]"
)
@click.option("--wait", is_flag=True, help="Follow the run to its end; exit with the code that `build` would have.")
def trigger(
    debug: bool,
    specs: tuple[str, ...],
    store: str | None,
    sdk: str | None,
    device: str | None,
    force: bool,
    key: str | None,
    wait: bool,
) -> None:
    """Have specs built by the service whose Prefect server PREFECT_API_URL names."""
    from flows.afar import prefect_client
    from hefjoin.errors import InputError

    if key and len(specs) > 1:
        raise InputError(f"--key stands for one run, and {len(specs)} specs are given; call once for each")
    read = [_checked(uri) for uri in specs]
    given = {"store": store, "sdk": sdk, "device": device, "force": force or None}
    options = {name: value for name, value in given.items() if value is not None}
    with prefect_client(debug) as client:
        runs: dict[UUID, str] = {}
        for spec in read:
            for note in _notes(spec, store):
                click.echo(f"hefjoin: {note}", err=True)
            runs[_post(client, spec, options, key)] = spec.name
        if wait:
            sys.exit(_follow(client, runs))


def _checked(uri: str) -> BuildSpec:
    """Return a spec with all that any machine can tell of it found to be right."""
    from hefjoin.errors import SpecError
    from hefjoin.spec_file import read_spec
    from hefjoin.stages.preflight import script_problems

    spec = read_spec(uri)
    if problems := script_problems(spec):
        raise SpecError(problems, uri)
    return spec


def _notes(spec: BuildSpec, store: str | None) -> list[str]:
    """Return what is known on this machine, and need not be where it is built."""
    sources = {model.name: model.source for model in spec.models}
    sources |= {"the calibration set": spec.calibration.source, "the evaluation set": spec.evaluation.source}
    local = [f"{what} ({source})" for what, source in sources.items() if source and "://" not in source]
    notes = [f"{spec.name}: {', '.join(local)}: a path, which the machine that builds must see too"] if local else []
    if store and "://" not in store and not store.startswith("/"):
        notes.append(f"--store {store} is taken from the folder of the worker that builds, not from here")
    return notes


def _post(client: SyncPrefectClient, spec: BuildSpec, options: dict[str, Any], key: str | None) -> UUID:
    """Post a run, print where it is, and return its id."""
    from uuid import uuid4

    from prefect.exceptions import ObjectNotFound
    from prefect.utilities.urls import url_for

    from flows.together import BUILDS
    from hefjoin.errors import InputError

    try:
        deployment = client.read_deployment_by_name(BUILDS)
    except ObjectNotFound as error:
        raise InputError(f"the Prefect server has no deployment {BUILDS}; `make deploy` sets it up") from error
    known = _known(client, key) if key else None
    run = known or client.create_flow_run_from_deployment(
        deployment.id,
        parameters={**options, "spec": spec.model_dump(mode="json")},
        name=f"build {spec.name}",
        idempotency_key=key or f"trigger-{uuid4()}",  # so that an answer that is lost and asked for again is one run
    )
    state = f" was asked for before ({run.state.name if run.state else 'unknown'})" if known else ""
    click.echo(f"{spec.name}: run {run.id}{state}\n{url_for('flow-run', run.id) or ''}".rstrip())
    return run.id


def _known(client: SyncPrefectClient, key: str) -> FlowRun | None:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey

    this_key = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key]))
    return next(iter(client.read_flow_runs(flow_run_filter=this_key)), None)


def _follow(client: SyncPrefectClient, runs: dict[UUID, str]) -> int:
    """Follow runs to their end; return the exit code of the first that does not end well."""
    from flows.follow import follow

    try:
        ended = follow(client, runs, lambda line: click.echo(f"  {line}", err=True))
    except KeyboardInterrupt:
        click.echo("hefjoin: not waited for any more; the runs go on, cancel them in the UI", err=True)
        return INTERRUPTED
    codes = [_tell(client, name, ended[run_id]) for run_id, name in runs.items()]
    return next((code for code in codes if code), 0)


def _tell(client: SyncPrefectClient, name: str, run: FlowRun) -> int:
    """Say how a run ended; return the exit code for it."""
    from flows.follow import tasks_of_failed
    from flows.outcome import HELD_BACK, build_and_verdict, exit_code, problem

    build, verdict = build_and_verdict(run)
    if build:
        click.echo(f"{name}: build {build}: {verdict}")
        return GATE_FAILED if verdict.startswith(HELD_BACK) else 0
    state = run.state
    how = f"{state.name.lower()}: " if state and state.name and not state.is_failed() else ""
    click.echo(f"hefjoin: {name}: {how}{problem(run)}", err=True)
    if state is not None and state.is_cancelled():
        return INTERRUPTED
    return exit_code(tasks_of_failed(client, run))
