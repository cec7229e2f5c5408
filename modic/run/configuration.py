"""What a cohort remembers of the configuration that it was graded with, in `private/configuration.json`.

A run with other options would grade every study again and publish other numbers under the same name. Whoever edits the
configuration file, names one for the first time, or names other weights means it. A night that forgot its `--config` or
`--models`, or took another file, does not: it is refused without the user's word (`--regrade`).
"""

from dataclasses import asdict, dataclass
from typing import Any

from modic.cohort import Cohort
from modic.config import GRADING_SECTIONS, Config
from modic.errors import UsageError
from modic.files import read_json, write_json

Options = dict[str, Any]
"""Name such as `levels.numbering_min` → value."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the user named: the configuration file and the folder of weights, absolute; empty for none."""

    file: str = ""
    models: str = ""


NOTHING = Given()
"""A run with the shipped weights and the defaults."""


def check_configuration(cohort: Cohort, config: Config, weights: dict[str, str], given: Given) -> None:
    """Raise UsageError if the cohort was graded with other options or weights and nobody said so.

    `weights`: id of the weights of each network that the configuration names. New weights of the same name, which a
    release or a training brings, are no other configuration.
    """
    known = _remembered(cohort)
    if known is None:
        return
    changes = []
    meant = bool(given.file) and known.get("file", "") in ("", given.file)
    if not meant:
        changed = differences(dict(known.get("options", {})), not_default(options_of(config)))
        changes += [_change(name, old, new) for name, (old, new) in sorted(changed.items())]
    if not given.models and (known.get("models") or not meant):
        changes += [name for name, id_ in weights.items() if _other_weights(known, name, getattr(config, name), id_)]
    if changes:
        raise UsageError(
            f"{cohort.root} was graded with other options ({', '.join(changes)}); give the --config or --models that it"
            " was graded with, or say --regrade to grade its studies again with these (--plan tells how many)"
        )


def remember_configuration(cohort: Cohort, config: Config, weights: dict[str, str], given: Given) -> None:
    """Note with what the cohort is graded; called when tables are published."""
    names = {name: {"name": getattr(config, name), "id": id_} for name, id_ in weights.items()}
    known = {**asdict(given), "options": not_default(options_of(config)), "weights": names}
    path = cohort.private / "configuration.json"
    if read_json(path) != known:
        write_json(path, known)


def remembered_weights(cohort: Cohort) -> dict[str, dict[str, str]]:
    """Network → `name` and `id` of the weights that the cohort was graded with last; empty where nobody noted them."""
    weights = (_remembered(cohort) or {}).get("weights")
    return weights if isinstance(weights, dict) else {}


def options_of(config: Config) -> Options:
    """Every option that can change a grade."""
    sections = {name: asdict(getattr(config, name)) for name in GRADING_SECTIONS}
    return {f"{name}.{option}": value for name, section in sections.items() for option, value in section.items()}


DEFAULTS = options_of(Config())


def not_default(options: Options) -> Options:
    """Those of this version that are not at their default."""
    return {name: value for name, value in options.items() if name in DEFAULTS and value != DEFAULTS[name]}


def differences(old: Options, new: Options) -> dict[str, tuple[Any, Any]]:
    """Option → (old, new) value of those that differ; None stands for an option that is not there."""
    names = old.keys() | new.keys()
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def changed_since(cohort: Cohort, run_id: str, config: Config) -> set[str] | None:
    """The options that `config` gives another value than a run had; None if the run left no word of its options."""
    manifest = read_json(cohort.run(run_id) / "manifest.json") or {}
    then = _options_of_manifest(manifest)
    return (
        {name for name, value in options_of(config).items() if name in then and then[name] != value} if then else None
    )


def _options_of_manifest(manifest: dict[str, Any]) -> Options:
    sections = manifest.get("options")
    if not isinstance(sections, dict):
        return {}
    known = {name: part for name, part in sections.items() if name in GRADING_SECTIONS and isinstance(part, dict)}
    return {f"{name}.{option}": value for name, section in known.items() for option, value in section.items()}


def _remembered(cohort: Cohort) -> dict[str, Any] | None:
    """What earlier runs wrote; of a cohort from before that, the options of the last run that has a manifest."""
    known = read_json(cohort.private / "configuration.json")
    if known is not None and isinstance(known.get("options"), dict):
        return known
    for run in reversed(cohort.runs()):
        if then := _options_of_manifest(read_json(run / "manifest.json") or {}):
            return {"options": not_default(then)}
    return None


def _other_weights(known: dict[str, Any], network: str, name: str, id_: str) -> bool:
    weights = known.get("weights", {})
    before = weights.get(network, {}) if isinstance(weights, dict) else {}
    return bool(before) and before.get("name") != name and before.get("id") != id_


def _change(name: str, old: Any, new: Any) -> str:
    then, now = (DEFAULTS.get(name) if value is None else value for value in (old, new))
    return f"{name} {then}, now {now}"
