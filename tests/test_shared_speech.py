"""What the sessions of a process share: each business has its own, and not without end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from audio_parts import hasty_threads

from recognition import Recognition
from shared_speech import MEBIBYTE, SharedSpeech

PHONE_CALL = Recognition("iw-IL", "phone_call")


def test_the_calls_of_a_business_share_what_was_learned() -> None:
    """The second call need not be refused what the first one was, nor ask during a break."""
    shared = SharedSpeech()
    shared.tenant("T1").refused_models.refuse(PHONE_CALL)
    shared.tenant("T1").recovery.exhausted()
    assert shared.tenant("T1").refused_models.instead(PHONE_CALL).model == "default"
    assert shared.tenant("T1").recovery.admit() > 0


def test_the_trouble_of_one_business_is_not_that_of_another() -> None:
    """Breaker and refused models are its own."""
    shared = SharedSpeech()
    shared.tenant("T1").refused_models.refuse(PHONE_CALL)
    shared.tenant("T1").recovery.exhausted()
    assert shared.tenant("T2").refused_models.instead(PHONE_CALL) is PHONE_CALL
    assert shared.tenant("T2").recovery.admit() == 0


def test_calls_that_begin_at_once_share_too() -> None:
    """Whichever is first makes what all of them get."""
    shared = SharedSpeech()
    with hasty_threads(), ThreadPoolExecutor(8) as pool:
        tenants = list(pool.map(shared.tenant, ["T1"] * 200))
    assert len({id(tenant) for tenant in tenants}) == 1


def test_names_without_end_do_not_take_memory_without_end() -> None:
    """A thousand are remembered; who was not heard of for longest is forgotten."""
    shared = SharedSpeech()
    kept, forgotten = shared.tenant("kept"), shared.tenant("forgotten")
    for number in range(998):
        shared.tenant(f"N{number}")
    assert shared.tenant("kept") is kept  # heard of again
    shared.tenant("one more")
    assert shared.tenant("kept") is kept
    assert shared.tenant("N1") is shared.tenant("N1")
    assert shared.tenant("forgotten") is not forgotten


@pytest.mark.parametrize(("given", "limit"), [(None, 64 * MEBIBYTE), (1000, 1000)])
def test_audio_that_waits_is_limited_for_all(given: int | None, limit: int) -> None:
    """64 MiB, or what the settings say."""
    shared = SharedSpeech() if given is None else SharedSpeech(given)
    ring = shared.waiting.new_ring(1, 10**9)
    ring.append(bytes(limit), 0.0)
    assert shared.waiting.kept == limit
    ring.append(b"a", 1.0)
    assert shared.waiting.kept <= 1
