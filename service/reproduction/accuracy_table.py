"""The paper's accuracy tables, reproduced, as Markdown: each of our figures beside the one that the paper prints."""

from collections.abc import Iterable, Iterator

from service.reproduction.accuracy_report import AccuracyReport, NetworkScore
from service.reproduction.budget import describe_budget
from service.reproduction.networks_report import TITLES
from service.reproduction.paper import ACCURACY_TABLES, SPEED, Accuracy, Spread

COLUMNS = ("network", "Acc", "paper's Acc", "IoU", "paper's IoU", "parameters, M", "paper's", "minutes")
FOLD_COLUMNS = ("network", "fold", "train, validation, test images", "Acc", "IoU", "best epoch", "minutes")
NOTHING = "–"
DATA_SETS = {"retina": "STARE", "cell": "ISBI 2012", "skin": "ISIC 2018"}
"""The data sets of the paper's figures (Table 1), by the names that `service.training.dataset` gives them."""
COUNTED = (
    "Parameters are those of the networks as they are served, with their batch norms folded. Most networks without "
    "RepVGG the paper counts as they are trained, which is up to 0.06 M more (docs/network.md)."
)
OTHERS = "Networks without a figure in the paper's tables of this data set"


def accuracy_tables(report: AccuracyReport) -> str:
    """Return the whole report: command, data, recipe, budget and machine, then a table for each of the paper's.

    Acc and IoU are mean ± population standard deviation over test images. A network that failed has a line that says
    why. With folds, a last table has a line for each fold.
    """
    sections = [_head(report), *_sections(report)]
    if report.folds is not None:
        sections.append(_section("Each fold", FOLD_COLUMNS, _fold_rows(report)))
    return "\n\n".join(sections) + "\n"


def heading() -> str:
    """Return the two lines of Markdown above the rows of `network_row`."""
    return "\n".join(_line(cells) for cells in (COLUMNS, _rule(COLUMNS)))


def network_row(score: NetworkScore, paper: Accuracy | None) -> str:
    """Return one network's line of Markdown, its figures beside those that the paper prints."""
    title = TITLES[score.network]
    if score.failure is not None:
        return _line([title, f"failed: {_escaped(score.failure)}", *[""] * (len(COLUMNS) - 2)])
    cells = [title, _spread(score.accuracy), _spread(paper.accuracy if paper else None)]
    cells += [_spread(score.iou), _spread(paper.iou if paper else None)]
    cells += [f"{score.parameters / 1e6:.2f}", f"{SPEED[score.network].parameters_m:.2f}", f"{score.minutes:.1f}"]
    return _line(cells)


def paper_row(network: str, modality: str) -> Accuracy | None:
    """Return the fullest row that the paper has of this network on this modality's data; None if it has none."""
    rows = [table.rows[network] for table in ACCURACY_TABLES if table.modality == modality and network in table.rows]
    return max(rows, key=lambda row: row.accuracy is not None, default=None)


def _head(report: AccuracyReport) -> str:
    recipe = report.recipe
    lines = [f"# Accuracy on the {recipe.modality} data", f"Command: `{report.command}`"]
    lines.append(f"Recipe: preset `{recipe.preset}`, seed {recipe.seed}, the same for every network.")
    if report.runs:
        data = report.runs[0].data
        sizes = f"{data.n_train} training, {data.n_validation} validation and {data.n_test} test images"
        where = "" if report.folds is None else " in the first fold"
        lines.append(f"Data: {data.name}; {sizes}{where} ({data.split}).{_caution(data.name, recipe.modality)}")
        lines.append(f"Budget of a run: {describe_budget(recipe, data.n_train)}")
        for title, values in (
            ("Trained on", (run.device for run in report.runs)),
            ("Commit", (f"`{run.commit}`" for run in report.runs)),
            ("PyTorch", (run.torch for run in report.runs)),
        ):
            lines.append(f"{title}: {', '.join(dict.fromkeys(values))}")
        lines.append(COUNTED)
    return "\n\n".join(lines)


def _caution(data: str, modality: str) -> str:
    papers = DATA_SETS[modality]
    return "" if data == papers else f" The paper's figures are of {papers}, which these data are not."


def _sections(report: AccuracyReport) -> Iterator[str]:
    """Yield a table for each of the paper's tables that has one of the networks, with rows in the paper's order."""
    scores = {score.network: score for score in report.networks}
    shown: set[str] = set()
    for table in ACCURACY_TABLES:
        rows = {key: row for key, row in table.rows.items() if key in scores}
        if table.modality == report.recipe.modality and rows:
            shown |= rows.keys()
            title = f"Table {table.number}: {table.title}"
            yield _section(title, COLUMNS, (network_row(scores[key], row) for key, row in rows.items()))
    if others := [score for key, score in scores.items() if key not in shown]:
        yield _section(OTHERS, COLUMNS, (network_row(score, None) for score in others))


def _fold_rows(report: AccuracyReport) -> Iterator[str]:
    for score in report.networks:
        for run in score.runs:
            images = f"{run.data.n_train}, {run.data.n_validation}, {run.data.n_test}"
            cells = [TITLES[score.network], run.folder.removeprefix("fold-"), images]
            cells += [_spread(run.accuracy), _spread(run.iou), str(run.best_epoch), f"{run.seconds / 60:.1f}"]
            yield _line(cells)


def _section(title: str, columns: tuple[str, ...], rows: Iterable[str]) -> str:
    return "\n".join([f"## {title}", "", _line(columns), _line(_rule(columns)), *rows])


def _rule(columns: tuple[str, ...]) -> list[str]:
    return ["---", *["---:"] * (len(columns) - 1)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(sentence: str) -> str:
    """Return the sentence as text for a cell, which a bar or the end of a line would end."""
    return " ".join(sentence.split()).replace("|", r"\|")


def _spread(spread: Spread | None) -> str:
    return NOTHING if spread is None else f"{spread.mean:.4f} ± {spread.std:.4f}"
