"""Sentences about a gradient flow, or about a network with and without its heads."""

import statistics
from collections.abc import Mapping, Sequence

from keras_inception.gradients.comparison import TrainingCurve
from keras_inception.gradients.flow import TOTAL, GradientRow
from keras_inception.outputs import MAIN

# How many times weaker the gradient is at its weakest stage.
SHRUNK, VANISHED = 10, 1000


def rows_by_loss(rows: Sequence[GradientRow]) -> dict[str, dict[str, GradientRow]]:
    """Loss to stage to row, in the order of the rows; only stages the loss reaches."""
    found: dict[str, dict[str, GradientRow]] = {}
    for row in rows:
        stages = found.setdefault(row.loss, {})
        if row.norm > 0:
            stages[row.stage] = row
    return found


def trunk_stages(rows: Sequence[GradientRow]) -> list[str]:
    """The stages before those of the outputs, in network order."""
    losses = {row.loss for row in rows}
    return list(dict.fromkeys(row.stage for row in rows if row.stage not in losses))


def share_of_heads(rows: Sequence[GradientRow]) -> dict[str, float]:
    """The heads' share of the gradient that trains each trunk stage.

    It is the part of `total` along its own direction that does not come from `main`:
    `1 - main . total / |total|^2`. It exceeds 1 where main points against the total.
    """
    losses = rows_by_loss(rows)
    shares = {}
    for stage in trunk_stages(rows):
        total = losses[TOTAL].get(stage)
        if total is None:
            continue
        main = losses[MAIN].get(stage)
        along = main.norm * (total.cosine_to_main or 0.0) if main else 0.0
        share = 1 - along / total.norm
        shares[stage] = 0.0 if abs(share) < 1e-6 else share  # rounding of float32
    return shares


def explain(rows: Sequence[GradientRow]) -> list[str]:
    """Explains the result of `gradient_flow`, a sentence or two for each finding."""
    losses = rows_by_loss(rows)
    heads = [loss for loss in losses if loss not in (MAIN, TOTAL)]
    trunk = [stage for stage in trunk_stages(rows) if stage in losses[MAIN]]
    findings = [_explain_main(losses[MAIN], trunk)]
    if not heads:
        findings.append(
            "This model has no auxiliary heads: every stage learns from the main loss "
            "alone."
        )
        return findings
    findings.append(_explain_shares(share_of_heads(rows), heads))
    findings += [_explain_direction(losses[head], head) for head in heads]
    return findings


def explain_comparison(curves: Mapping[str, TrainingCurve]) -> list[str]:
    """Explains the result of `compare_without_heads`, a sentence for each finding."""
    with_heads, without_heads = curves["with heads"], curves["without heads"]
    steps = len(with_heads.main_losses)
    texts = [
        f"Two copies began with the same weights and trained on the same {steps} "
        "batches, one with the heads' losses added and one without."
    ]
    for when, rows, rows_without in (
        ("At the initial weights", with_heads.before, without_heads.before),
        ("At the end", with_heads.after, without_heads.after),
    ):
        total = rows_by_loss(rows)[TOTAL]
        first = next(iter(total))
        without = rows_by_loss(rows_without)[TOTAL].get(first)
        if without is None:
            texts.append(
                f"{when} the first stage, {first}, gets no gradient without heads."
            )
            continue
        norm = total[first].norm
        texts.append(
            f"{when} the first stage, {first}, gets {norm:.2g} with heads and "
            f"{without.norm:.2g} without: {_times(norm / without.norm)} as much."
        )
    tail = max(1, steps // 10)
    loss = statistics.fmean(with_heads.main_losses[-tail:])
    loss_without = statistics.fmean(without_heads.main_losses[-tail:])
    texts.append(
        f"The main loss over the last {tail} batches was {loss:.3f} with heads and "
        f"{loss_without:.3f} without. These are training batches of one run with one "
        "seed. To see the heads' effect on validation accuracy, train both networks to "
        "the end with several seeds."
    )
    return texts


def _explain_main(main: Mapping[str, GradientRow], trunk: Sequence[str]) -> str:
    if not trunk:
        return (
            "The main loss reaches no stage of the trunk: its gradient is zero "
            "everywhere, and the trunk learns from the heads alone."
        )
    first, last = trunk[0], trunk[-1]
    weakest = min(trunk, key=lambda stage: main[stage].norm)
    sizes = f"{main[last].norm:.2g} at {last}, the last stage before the classifier"
    ratio = main[last].norm / main[weakest].norm
    if ratio >= SHRUNK:
        return (
            f"The gradient of the main loss shrinks on its way back: {sizes}, "
            f"{main[weakest].norm:.2g} at {weakest}, {_times(ratio)} less; the "
            f"first stage, {first}, gets {main[first].norm:.2g}."
            + (" A stage hardly learns from so little." if ratio >= VANISHED else "")
        )
    return (
        f"The gradient of the main loss has not vanished: {sizes}, "
        f"{main[weakest].norm:.2g} where it is weakest ({weakest}), and "
        f"{main[first].norm:.2g} at the first stage, {first}."
    )


def _explain_shares(shares: Mapping[str, float], heads: Sequence[str]) -> str:
    reached = {stage: share for stage, share in shares.items() if share}
    if not reached:
        return f"The heads ({', '.join(heads)}) send no gradient to the trunk."
    most = max(reached, key=lambda stage: reached[stage])
    first = next(iter(shares))
    text = (
        f"Of the gradient that trains {first}, {_percent(shares[first])} comes from "
        f"the heads ({', '.join(heads)}), each with its weight in the loss"
    )
    if most != first:
        text += f"; the largest share is {_percent(reached[most])}, at {most}"
    beyond = [stage for stage, share in shares.items() if share == 0]
    if beyond:
        text += f". From {beyond[0]} on only the main loss counts"
    return text + "."


def _explain_direction(head: Mapping[str, GradientRow], name: str) -> str:
    cosines = {
        stage: row.cosine_to_main
        for stage, row in head.items()
        if row.cosine_to_main is not None
    }
    if not cosines:
        return f"{name} and the main loss share no stage that both reach."
    mean = statistics.fmean(cosines.values())
    if mean > 0.5:
        verdict = "pulls the same way as the main loss"
    elif mean > 0.1:
        verdict = "pulls partly the same way as the main loss"
    elif mean >= -0.1:
        verdict = "pulls neither with the main loss nor against it"
    else:
        verdict = "pulls against the main loss"
    low = min(cosines, key=lambda stage: cosines[stage])
    high = max(cosines, key=lambda stage: cosines[stage])
    return (
        f"{name} {verdict}: the cosine between their gradients is {mean:.2f} on "
        f"average over the {len(cosines)} stages that they share, from "
        f"{cosines[low]:.2f} ({low}) to {cosines[high]:.2f} ({high})."
    )


def _times(ratio: float) -> str:
    """`"3.2 times"`, `"1,500 times"`, `"6e+13 times"`."""
    if ratio >= 1e6:
        return f"{ratio:.0e} times"
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
