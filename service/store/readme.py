"""The README.md of a published checkpoint: its card, for people. The same card always gives the same text."""

from collections.abc import Mapping

from service.imaging.policy import InputPolicy, Levels, Margins
from service.imaging.share import percent
from service.store.card import Card, IouEstimate, Quantised, Scores, Training, TrainingMasks

Row = tuple[str, object]
FEW_IMAGES = 100

CUT_OFF: Mapping[Margins, str] = {
    "keep": "",
    "plain": "A frame of one colour is cut off. ",
    "trim": "Dark margins, and a frame of one colour, are cut off. ",
}
BROUGHT_TO_FULL_RANGE: Mapping[Levels, str] = {
    "lighten": "If it is dark, made lighter. ",
    "stretch": "If it is dark or flat, stretched to the full range of levels. ",
}


def card_readme(card: Card) -> str:
    """Return Markdown that says what the checkpoint is, how good it is, how it was trained, and how to use it."""
    sections = [
        _title(card),
        _scores(card.test),
        _input(card),
        _training(card),
        _network(card),
        _use(card),
        _limits(card),
    ]
    return "\n\n".join(sections) + "\n"


def describe_input(policy: InputPolicy) -> str:
    """Say in a sentence or two how an upload is brought to the network's grid (sizes are height × width)."""
    size = f"{policy.height} × {policy.width}"
    grid = " × ".join(str(side) for side in policy.grid)
    first = CUT_OFF[policy.margins] + BROUGHT_TO_FULL_RANGE[policy.levels]
    match policy.kind:
        case "fit":
            return f"{first}Scaled to fit {size}, aspect kept, padded by reflection to {grid}."
        case "stretch":
            return f"{first}Resized to {size}, whatever its aspect."
        case "tile":
            return f"{first}At its own resolution, in tiles of {size} that overlap by at least {policy.overlap}."


def _title(card: Card) -> str:
    return (
        f"# {card.modality} {card.version}: {card.label}\n\n"
        f"Weights of {card.architecture} that mark the {card.label} in {card.modality} images. "
        f"Published {card.created}, re-parameterised, in safetensors format.\n\n"
        f"**Intended use.** {card.intended_use}"
    )


def _scores(scores: Scores | None) -> str:
    if scores is None:
        return "## Scores\n\nNone: no image was held out from training."
    rows: list[Row] = [
        ("IoU", f"{scores.iou_mean:.4f} ± {scores.iou_std:.4f}"),
        ("Accuracy", f"{scores.accuracy_mean:.4f} ± {scores.accuracy_std:.4f}"),
        ("Dice", f"{scores.dice_mean:.4f}"),
        ("Mean absolute error of the expected IoU", _expected_iou_error(scores)),
        *_calibration_error(scores),
        ("Flagged as unlike the training images", f"{scores.flagged_fraction:.1%}"),
        *_flagged_masks(scores),
    ]
    return (
        f"## Scores\n\nOn {scores.n} images of {scores.dataset} held out from training ({scores.split}), "
        f"mean ± population standard deviation over images.\n\n{_table(('Score', 'Value'), rows)}"
    )


def _flagged_masks(scores: Scores) -> list[Row]:
    share = scores.flagged_masks_fraction
    return [] if share is None else [("Masks flagged as unlike the training masks", f"{share:.1%}")]


def _expected_iou_error(scores: Scores) -> str:
    plain = "" if scores.plain_iou_error is None else f" (plain estimate: {scores.plain_iou_error:.4f})"
    return f"{scores.expected_iou_error:.4f}{plain}"


def _calibration_error(scores: Scores) -> list[Row]:
    error = scores.calibration_error
    if error is None:
        return []
    value = f"{error.after:.4f} (at temperature 1: {error.before:.4f})"
    return [(f"Expected calibration error, {error.bins} bins over all pixels", value)]


def _estimate(estimate: IouEstimate | None) -> str:
    if estimate is None:
        return "plain"
    return (
        f"logit = {estimate.offset} + {estimate.plain} × logit(plain estimate) "
        f"+ {estimate.decided} × logit(decidedness)"
    )


def _usual_share(masks: TrainingMasks | None) -> list[Row]:
    return [] if masks is None else [("Usual share of foreground", f"{percent(masks.least)} to {percent(masks.most)}")]


def _components(least: float) -> list[Row]:
    return [("Left out of a mask", f"components of less than {percent(least)} of the largest")] if least else []


def _input(card: Card) -> str:
    rows: list[Row] = [
        ("Upload", describe_input(card.input)),
        ("Mean of R, G, B", _numbers(card.normalisation.mean)),
        ("Standard deviation of R, G, B", _numbers(card.normalisation.std)),
        ("Temperature", card.temperature),
        ("Threshold", card.threshold),
        *_components(card.least_component),
        ("IoU estimate", _estimate(card.expected_iou)),
        *_usual_share(card.training_masks),
    ]
    return f"## Input and output\n\n{_table(('What', 'Value'), rows)}\n\nThe mask has the size of the upload."


def _training(card: Card) -> str:
    training, data = card.training, card.data
    rows: list[Row] = [
        ("Data", data.name),
        ("Images to train, validate, test", f"{data.n_train}, {data.n_validation}, {data.n_test}"),
        ("Split", data.split),
        ("Digest of the data", f"`{data.digest}`"),
        ("Preset", training.preset),
        ("Seed", training.seed),
        ("Commit of the code", training.commit),
        ("Versions", ", ".join(f"{name} {version}" for name, version in training.versions.items())),
        ("Device", training.device),
        ("Epochs, best", f"{training.epochs}, {training.best_epoch}" if training.epochs else _untrained(training)),
        ("Duration", f"{training.duration_s / 60:.1f} minutes"),
    ]
    return f"## Training\n\n{_table(('What', 'Value'), rows)}\n\n### Config\n\n{_config(training.config)}"


def _untrained(training: Training) -> str:
    if training.config.get("soup"):
        return "none: the mean of the weights that the config names as `encoder_weights` and `soup`"
    return "none: the weights that the config names as `encoder_weights`"


def _network(card: Card) -> str:
    rows: list[Row] = [
        ("Architecture", card.architecture),
        *((f"`{name}`", value) for name, value in card.architecture_config.items()),
        ("Parameters in training", f"{card.parameters_in_training:,}"),
        ("Parameters published", f"{card.parameters:,}"),
        ("Largest logit difference of the two forms", f"{card.largest_logit_difference:.1e}"),
        ("SHA-256 of `weights.safetensors`", f"`{card.weights_sha256}`"),
        *_integers(card.int8),
    ]
    return f"## Network\n\n{_table(('What', 'Value'), rows)}"


def _integers(form: Quantised | None) -> list[Row]:
    if form is None:
        return []
    made_with = ", ".join(f"{tool} {version}" for tool, version in form.tools.items())
    side = "below" if form.iou_loss >= 0 else "above"
    return [
        ("8-bit form for CPUs", f"calibrated on {form.calibration_images} training images with {made_with}"),
        (f"Its IoU on {form.n} test images", f"{form.iou_mean:.4f}, {abs(form.iou_loss):.4f} {side} that of float32"),
    ]


def _use(card: Card) -> str:
    return (
        "## Use\n\nWith the service running on this machine:\n\n"
        "```sh\n"
        "curl --fail-with-body -H 'Accept: image/png' -F image=@image.png -o mask.png \\\n"
        f"  http://127.0.0.1:8000/segment/{card.modality}\n"
        "```"
    )


def _limits(card: Card) -> str:
    if card.test is None:
        measured = "Quality was not measured"
    else:
        few = "few " if card.test.n < FEW_IMAGES else ""
        measured = f"The scores are those of {few}images from the same source as the training images"
    return (
        "## Limits\n\n"
        f"- {card.intended_use}\n"
        f"- {measured}; expect less of other cameras, sites and preparations.\n"
        "- An answer to an image unlike the training images carries a warning, but not every such image is noticed."
    )


def _config(config: Mapping[str, object]) -> str:
    return _table(("Name", "Value"), [(f"`{name}`", value) for name, value in config.items()])


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _table(head: tuple[str, str], rows: list[Row]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |"]
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    """Return `value` on one line, with the bars that would end a cell escaped."""
    return " ".join(str(value).split()).replace("|", "\\|")
