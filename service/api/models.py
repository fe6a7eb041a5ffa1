"""GET /models and /models/{modality}: what there is to segment with."""

from dataclasses import asdict

from fastapi import APIRouter

from service.api import openapi
from service.api.parts import Modality, TheParts
from service.api.schemas import InputGrid, ModelList, ModelScores, ModelSummary, RefusedVersion
from service.engine.modality import ModalityState
from service.errors import NotReady, ShuttingDown, UnknownModality
from service.store.card import Card

router = APIRouter(tags=["models"])


@router.head("/models", include_in_schema=False)
@router.get("/models", responses=openapi.problems_of(), summary="What there is to segment with")
async def models(parts: TheParts) -> ModelList:
    """List every modality that this replica has or is to have, and whether it is ready."""
    cards, engines = parts.fleet.cards, parts.fleet.engines
    return ModelList(
        models=[_summary(name, state, cards.get(name), engines.get(name)) for name, state in parts.fleet.states.items()]
    )


@router.head("/models/{modality}", include_in_schema=False)
@router.get(
    "/models/{modality}",
    responses=openapi.problems_of(UnknownModality, NotReady, ShuttingDown),
    summary="A checkpoint's card",
)
async def card(parts: TheParts, modality: Modality) -> Card:
    """Return all that is known about the checkpoint that serves a modality."""
    ready = parts.fleet.cards.get(modality)
    return parts.fleet.segmenter(modality).card if ready is None else ready


def _summary(modality: str, state: ModalityState, card: Card | None, engine: str | None) -> ModelSummary:
    summary = ModelSummary(
        modality=modality,
        status=state.status,
        reason=state.reason or None,
        version=state.version,
        pinned=state.is_pinned,
        refused=None if state.refused is None else RefusedVersion(**asdict(state.refused)),
        engine=engine,
    )
    if card is None:
        return summary
    known = {
        "architecture": card.architecture,
        "label": card.label,
        "input": InputGrid.model_validate(asdict(card.input)),
        "scores": None if card.test is None else ModelScores.of(card.test),
    }
    return summary.model_copy(update=known)
