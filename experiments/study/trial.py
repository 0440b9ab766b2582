"""One trial of a study: its name, its data, and its run in a temporary clone."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.repository.clones import write_dvc_config
from experiments.repository.dvc_experiments import Changes, export_experiment, run_experiment
from experiments.repository.pipeline import PIPELINE, dependency_paths, read_stages
from experiments.repository.subprocesses import CommandError, dvc, git
from experiments.study.grid import Trial, layers_name
from stages.common.errors import UserError
from stages.common.params import PARAMS, flatten, read_yaml

DATA_STAGE = "normalize"  # its outputs are the same for all trials
Config = Mapping[str, Mapping[str, str]]  # of DVC: section to key to value


class Inputs(NamedTuple):
    """Inputs of the pipeline without its data, from which a trial's name is computed.

    Attributes:
        stages: command and parameter sections of each stage.
        files: mode, git object id and path of each file that stages depend on.
        params: parameters by name, such as train.seed.
    """

    stages: dict[str, list[Any]]
    files: list[str]
    params: dict[str, Any]


def commit_snapshot(clone: Path) -> None:
    """Commits the index of a temporary clone, which makes it the snapshot of a study."""
    commit(clone, "--message", "Workspace at the start of a study")


def commit(clone: Path, *options: str) -> None:
    """Commits the index of a clone, without hooks and signatures of the user."""
    git(
        *("commit", "--quiet", "--allow-empty", "--no-verify", "--no-gpg-sign", *options),
        cwd=clone,
    )


def read_inputs(snapshot: Path) -> Inputs:
    """Reads the inputs of the pipeline, except its data, from the commit of a snapshot."""
    stages = read_stages(snapshot / PIPELINE)
    outputs = {
        path
        for stage in stages.values()
        for kind in ("outs", "metrics", "plots")
        for output in stage.get(kind, [])
        for path in ([output] if isinstance(output, str) else output)
    }
    code = dependency_paths(stages) - outputs
    files = git("ls-tree", "-r", "HEAD", "--", *sorted(code), cwd=snapshot)
    return Inputs(
        {name: [stage.get("cmd"), stage.get("params")] for name, stage in stages.items()},
        files.splitlines(),
        flatten(read_yaml(snapshot / PARAMS)),
    )


def trial_name(trial: Trial, inputs: Inputs) -> str:
    """Name of the experiment of a trial. It ends with a digest of the inputs."""
    text = json.dumps(inputs._replace(params=inputs.params | trial.changes), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    layers = layers_name(trial.hidden_units)
    return f"study-{layers}-epochs-{trial.epochs}-seed-{trial.seed}-{digest[:7]}"


def prepare_data(snapshot: Path, validation: int, remote_name: str | None) -> None:
    """Runs the stages that make the data of all trials, before the first trial.

    Args:
        snapshot: directory of the snapshot. Its commit gets the new dvc.lock.
        validation: number of training images held out.
        remote_name: of DVC's remote that gets the data, for messages; None for no remote.

    Raises:
        UserError: a stage or `dvc push` has failed.
    """
    change = f"normalize.validation={validation}"
    try:
        dvc("exp", "run", "--set-param", change, DATA_STAGE, cwd=snapshot)
    except CommandError as error:
        raise UserError(f"the data cannot be prepared:\n{error}") from None
    git("add", "--all", cwd=snapshot)
    commit(snapshot, "--amend", "--no-edit")
    if remote_name:
        try:
            dvc("push", DATA_STAGE, cwd=snapshot)
        except CommandError as error:
            raise UserError(f"the data cannot be pushed to {remote_name}:\n{error}") from None


def run_trial(
    snapshot: Path,
    directory: Path,
    config: Config,
    name: str,
    changes: Changes,
    *,
    use_remote: bool,
    **variables: str,
) -> bytes:
    """Runs `dvc exp run` in a clone of a snapshot.

    Args:
        snapshot: directory of the snapshot, or its bare clone on a node.
        directory: where the clone is made.
        config: DVC's configuration in the clone.
        name: of the experiment.
        changes: of params.yaml.
        use_remote: whether data are fetched from DVC's remote first, and the model is pushed.
        variables: environment variables for the stages.

    Returns:
        The experiment as a git bundle of one commit. Its parent is the user's commit.

    Raises:
        CommandError: a command has failed; the message is the end of its output.
    """
    clone = directory / "clone"
    git("clone", "--quiet", "--template=", snapshot, clone)
    # The author of the snapshot is also the author of the experiment's commits.
    author = git("show", "--no-patch", "--format=%an%n%ae", cwd=clone).splitlines()
    for key, value in zip(("user.name", "user.email"), author, strict=True):
        git("config", key, value, cwd=clone)
    # The experiment's parent must be the user's commit, which the user's repository has. The
    # changes of the snapshot stay in the index.
    git("reset", "--quiet", "--soft", "HEAD^", cwd=clone)
    write_dvc_config(clone, config)
    if use_remote:
        dvc("fetch", DATA_STAGE, cwd=clone)
    reference = run_experiment(
        clone, name, changes, show_output=False, allow_missing=True, **variables
    )
    if use_remote:
        dvc("push", cwd=clone)
    return export_experiment(clone, reference)
