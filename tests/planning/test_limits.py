"""What still fits fits, and one more does not."""

from __future__ import annotations

import pytest

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import WorkerError
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.limits import LARGEST_BATCH, TOKEN_STEP, Limit, largest_batch, longest_row
from lora_backend.planning.planner import NotTracedError, Planner, with_changes
from lora_backend.planning.targets import of_words
from tests.planning.formula_plans import CONFIG, FACTS, source


@pytest.mark.parametrize("words", ["6", "8,4"])
@pytest.mark.parametrize("start", [1, 3, 500])
def test_the_largest_batch_fits_and_one_row_more_does_not(words: str, start: int) -> None:
    planner = Planner(source(FACTS), of_words(words))
    found = largest_batch(planner, with_changes(CONFIG, batch_size=start, max_length=256))
    assert found.is_exact
    rows = found.value
    assert 1 < rows < LARGEST_BATCH
    fits = [planner.plan(with_changes(CONFIG, batch_size=count, max_length=256)).fits for count in (rows, rows + 1)]
    assert fits == [True, False]


def test_a_torch_process_that_ends_is_not_said_to_be_a_limit() -> None:
    def source_that_dies(config: TrainingConfig) -> Profile:
        if config.batch_size > 1:
            raise WorkerError("it ended")
        return source(FACTS)(config)

    with pytest.raises(WorkerError):
        largest_batch(Planner(source_that_dies, of_words("6")), CONFIG)


def test_the_longest_row_fits_and_a_step_more_does_not() -> None:
    planner = Planner(source(FACTS), of_words("6"))
    found = longest_row(planner, CONFIG)
    assert found.is_exact
    tokens = found.value
    assert 0 < tokens < 8192
    assert tokens % TOKEN_STEP == 0
    fits = [planner.plan(with_changes(CONFIG, max_length=count)).fits for count in (tokens, tokens + TOKEN_STEP)]
    assert fits == [True, False]


def test_a_row_is_never_longer_than_the_models_positions() -> None:
    assert longest_row(Planner(source(FACTS), of_words("640")), CONFIG) == Limit(8192)
    assert longest_row(Planner(source(FACTS), of_words("640")), with_changes(CONFIG, max_length=100_000)) == Limit(8192)


def test_nothing_is_said_where_not_even_the_least_fits() -> None:
    planner = Planner(source({**FACTS, "num_hidden_layers": 24}), of_words("2"))
    assert (largest_batch(planner, CONFIG), longest_row(planner, CONFIG)) == (Limit(0), Limit(0))
    assert largest_batch(Planner(source(FACTS), of_words("1")), CONFIG) == Limit(0), "no GPU has enough memory"


def test_the_batch_is_not_looked_for_without_end() -> None:
    tiny = {**FACTS, "hidden_size": 32, "intermediate_size": 32, "vocab_size": 32, "num_hidden_layers": 1}
    assert largest_batch(Planner(source(tiny), of_words("640")), with_changes(CONFIG, max_length=8)) == Limit(
        LARGEST_BATCH
    )


def test_what_is_not_traced_is_said_as_at_least() -> None:
    """One padded row needs no mask and several do, so they are two traces."""

    def only_one_row(config: TrainingConfig) -> Profile:
        if config.batch_size > 1:
            raise NotTracedError("not traced yet")
        return source(FACTS)(config)

    planner = Planner(only_one_row, of_words("24"))
    config = with_changes(CONFIG, batch_size=1, max_length=256, batching="padded")
    assert largest_batch(planner, config) == Limit(1, is_exact=False)
    assert longest_row(planner, config).is_exact


def test_a_placement_by_hand_has_its_own_limits() -> None:
    planner = Planner(source(FACTS), of_words("8,24"))
    num_units = len(planner.plan(CONFIG).assignment)
    all_on_the_small_one = (0,) * num_units
    assert largest_batch(planner, CONFIG, all_on_the_small_one).value < largest_batch(planner, CONFIG).value
