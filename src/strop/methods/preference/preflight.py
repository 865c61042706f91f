"""What a run, a plan and the doctor look at first, so that nothing is spent on a run that nobody could believe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from strop.errors import UserError
from strop.judging.qualifying.certificate import Standing
from strop.judging.rubric import load_rubric
from strop.judging.settings import JudgeSettings, require_other_family, standing_of
from strop.methods.preference.card import Provenance, Source, with_certificate
from strop.methods.preference.config import PreferenceConfig
from strop.models.rewards.opening import require_reward
from strop.models.spec import ModelSpec
from strop.runs.shipped import DATA

NO_JUDGE = "The second reward model compares in a judge's place: it has no certificate, and its taste was learned."


@dataclass(frozen=True, slots=True)
class Cleared:
    """What the report must say about the judges.

    Attributes:
        rater: The standing of the judge that rates; None where the ratings came as files.
        judge: The standing of the judge that compares; None where a reward model does.
        warnings: What they were allowed in spite of.
    """

    rater: Standing | None
    judge: Standing | None
    warnings: tuple[str, ...]


def preflight(config: PreferenceConfig, *, files: bool = True) -> Cleared:
    """Make sure, as far as that is free, that the run can start and that its judges may judge.

    Args:
        config: The settings of the run.
        files: Whether the files of the recipe must be here; a plan can do without.

    Raises:
        UserError: A model or a file is missing; a judge is not qualified; or the judge that compares is of the family
            of a contestant or of the judge that rated.
    """
    if files:
        _require_files(config)
        _require_models(config)
    families = tuple(_families(config))
    warnings = list(families)
    rater = judge = None
    if config.ratings is not None:
        rater = _standing(config.ratings.judge, config, warnings, files=files)
    if config.comparison is not None:
        if config.comparison.judge is None:
            warnings.append(NO_JUDGE)
        else:
            judge = _standing(config.comparison.judge, config, warnings, files=files)
    return Cleared(rater, judge, tuple(dict.fromkeys(warnings)))


def provenance_of(config: PreferenceConfig, cleared: Cleared) -> Provenance:
    """Return what the data card says that the pairs cannot tell of themselves."""
    told = Provenance(
        title="Preference pairs by written principles",
        command="strop run, with the config.resolved.yaml of the run's folder",
        sources=tuple(_source(path) for path in (*config.speeches.files, *config.rated)),
    )
    ratings = config.ratings
    if ratings is None:
        return replace(told, judge="not stated: the ratings came as files")
    rubric = load_rubric(ratings.judge.rubric)
    told = replace(told, rubric=f"{rubric.name} (version {rubric.version}, {rubric.hash[:12]})")
    if ratings.judge.certificate is None or cleared.rater is None or not cleared.rater.qualified:
        return told
    return with_certificate(told, ratings.judge.certificate)


def _source(path: Path) -> Source:
    return Source(path.name, "Apache-2.0, written by the project" if path.is_relative_to(DATA) else "")


def _standing(judge: JudgeSettings, config: PreferenceConfig, warnings: list[str], *, files: bool) -> Standing | None:
    if not files and judge.certificate is None:
        warnings.append(f"{judge.model.model} has no certificate yet: a run refuses it until it has one.")
        return None
    standing = standing_of(judge, config.machine)
    if not standing.qualified:
        warnings.append(f"{standing.text[:1].upper()}{standing.text[1:]}.")
    return standing


def _families(config: PreferenceConfig) -> Iterator[str]:
    """Yield the warnings about a comparing judge that is kin to a contestant or to the judge behind the labels."""
    comparison = config.comparison
    if comparison is None or comparison.judge is None:
        return
    kin: dict[str, ModelSpec] = {"the policy": config.policy.model}
    if comparison.opponent is not None:
        kin["the opponent"] = comparison.opponent.model
    if config.ratings is not None:
        kin["the judge that rated"] = config.ratings.judge.model
    warning = require_other_family(comparison.judge, kin)
    if warning is not None:
        yield warning


def _require_files(config: PreferenceConfig) -> None:
    for path in (*config.speeches.files, *config.rated, *_reward_files(config)):
        if not path.is_file():
            raise UserError(
                "no such file", value=str(path), fix="correct the recipe; `shipped:PATH` is a file of strop"
            )


def _reward_files(config: PreferenceConfig) -> Iterator[Path]:
    """Yield what the reward models learn from besides the run's own pairs."""
    for reward in filter(None, (config.reward, config.second_reward)):
        yield from reward.rated
        if reward.mix is not None:
            yield reward.mix.file


def _require_models(config: PreferenceConfig) -> None:
    trained = {"reward.model": config.reward.model, "policy.model": config.policy.model}
    if config.second_reward is not None:
        trained["second_reward.model"] = config.second_reward.model
    for key, model in trained.items():
        if model.kind not in ("local", "builtin", "hf"):
            raise UserError(
                f"'{key}' is to be trained, and its weights are not on this machine",
                value=model.model,
                fix="give a local folder, hf:ORG/NAME or a builtin",
            )
        model.check()
    if config.policy.online is not None and config.policy.online.reward is not None:
        require_reward(config.policy.online.reward)
    for contestant in config.candidates.pool if config.candidates is not None else ():
        contestant.model.check()
    if config.comparison is not None and config.comparison.opponent is not None:
        config.comparison.opponent.model.check()
