"""Before anything is spent: judges that may not judge, files that are not there, models that cannot be trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.preflight import NO_JUDGE, preflight, provenance_of

Configure = Callable[..., PreferenceConfig]


def compared(folder: Path, judge: str, **changes: Any) -> dict[str, Any]:
    (folder / f"{judge}.yaml").touch()
    settings = {"model": f"scripted:{folder}/{judge}.yaml", "allow_unqualified": True, **changes.pop("settings", {})}
    return {"judge": settings, **changes}


def test_two_unqualified_judges_are_told_of(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("default: 'Verdict: A'")
    cleared = preflight(configure(comparison=compared(tmp_path, "other")))
    assert cleared.rater is not None
    assert cleared.judge is not None
    assert not cleared.rater.qualified
    assert not cleared.judge.qualified
    assert cleared.warnings
    assert all(warning[0].isupper() and warning.endswith(".") for warning in cleared.warnings)


def test_a_reward_model_in_a_judges_place_is_told_of(configure: Configure) -> None:
    assert NO_JUDGE in preflight(configure()).warnings


@pytest.mark.parametrize("place", ["ratings", "comparison"])
def test_a_judge_without_a_certificate_is_refused_in_both_places(
    configure: Configure, tmp_path: Path, place: str
) -> None:
    (tmp_path / "other.yaml").write_text("default: 'Verdict: A'")
    strict = {"judge": {"model": f"scripted:{tmp_path}/other.yaml"}}
    with pytest.raises(UserError, match="this judge has no certificate"):
        preflight(configure(**{place: strict}))


@pytest.mark.parametrize(
    ("judge", "kin"),
    [("model-two", "the policy"), ("great-two", "the opponent"), ("judge-two", "the judge that rated")],
)
def test_a_judge_of_the_family_is_refused_unless_forced_and_then_told_of(
    configure: Configure, tmp_path: Path, judge: str, kin: str
) -> None:
    """The policy's folder is `model`, the opponent is `great`, and `judge` has rated."""
    (tmp_path / f"{judge}.yaml").write_text("default: 'Verdict: A'")
    opponent = {"model": f"scripted:{tmp_path}/great.yaml"}
    with pytest.raises(UserError, match=f"same family as a contestant(?s:.*){kin}"):
        preflight(configure(comparison=compared(tmp_path, judge, opponent=opponent)))
    forced = compared(tmp_path, judge, opponent=opponent, settings={"allow_same_family": True})
    (told,) = [warning for warning in preflight(configure(comparison=forced)).warnings if "of the family" in warning]
    assert kin in told


def test_files_that_are_not_there(configure: Configure, tmp_path: Path) -> None:
    config = configure()
    reward = {"model": config.reward.model.model, "train": config.reward.train.model_dump()}
    missing = tmp_path / "nowhere.jsonl"
    for changes in (
        {"speeches__files": [missing]},
        {"reward": {**reward, "rated": [missing]}},
        {"reward": {**reward, "mix": {"file": missing}}},
        {"second_reward": {**reward, "rated": [missing]}},
        {"second_reward": {**reward, "mix": {"file": missing}}},
        {"candidates": None, "ratings": None, "rated": [missing]},
    ):
        with pytest.raises(UserError, match=r"no such file(?s:.*)nowhere\.jsonl"):
            preflight(configure(**changes))


def test_a_plan_may_do_without_them(configure: Configure, tmp_path: Path) -> None:
    cleared = preflight(configure(speeches__files=[tmp_path / "nowhere.jsonl"]), files=False)
    assert any("no certificate yet" in warning for warning in cleared.warnings)


@pytest.mark.parametrize("key", ["reward", "second_reward", "policy"])
def test_an_endpoint_cannot_be_trained(configure: Configure, key: str) -> None:
    with pytest.raises(UserError, match=rf"'{key}\.model' is to be trained"):
        preflight(configure(**{f"{key}__model": "http://127.0.0.1:9/v1#far"}))


def test_a_base_that_is_not_there_is_named(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model folder"):
        preflight(configure(policy__model=str(tmp_path / "nowhere")))


def test_a_writer_without_its_script_is_named(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "fair.yaml").unlink()
    with pytest.raises(UserError, match=r"no such script of replies(?s:.*)fair\.yaml"):
        preflight(configure())


def test_a_reward_model_that_ranks_must_be_there_before_anybody_is_asked(
    configure: Configure, tmp_path: Path, tiny_reward: Path
) -> None:
    online = configure().policy.online
    assert online is not None
    for reward in ("words", str(tiny_reward), "http://127.0.0.1:9/get_reward"):
        preflight(configure(policy__online={**online.model_dump(), "reward": reward}))
    with pytest.raises(UserError, match=r"no such reward model(?s:.*)nowhere"):
        preflight(configure(policy__online={**online.model_dump(), "reward": str(tmp_path / "nowhere")}))


def test_what_the_card_is_told_of_the_ratings(configure: Configure, tmp_path: Path) -> None:
    """A rubric with its hash where the run rates; nothing is claimed of files; our own files have our licence."""
    made = configure()
    told = provenance_of(made, preflight(made))
    assert told.rubric.startswith("principles-v1 (version ")
    assert [(source.name, source.licence) for source in told.sources] == [("speeches.jsonl", "")]
    rated = tmp_path / "rated.jsonl"
    rated.touch()
    files = configure(candidates=None, ratings=None, rated=[rated])
    assert "came as files" in provenance_of(files, preflight(files)).judge
