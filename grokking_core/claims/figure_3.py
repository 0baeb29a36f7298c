"""Figure 3: what the output layer has learned."""

from __future__ import annotations

import pandas as pd

from grokking_core import measures
from grokking_core.claims.deciding import (
    ALPHA,
    S5,
    Verdict,
    claim,
    kind_of,
    verdict,
)
from grokking_core.runs import words
from grokking_core.runs.records import Records
from grokking_core.weights import cosets, structure


@claim(
    "figure 3, left",
    "The output rows of S5 product cluster by cosets of the subgroup of order 10 that (0 3)(1 4) and "
    "(1 2)(3 4) generate, or of a conjugate of it.",
)
def c17(fig3_embeddings: Records) -> Verdict:
    """Decided by `cosets.coset_test` on networks with weight decay that know S5 product.

    The subgroup that stands out most has the largest z, with a corrected p of ALPHA or less; those around
    it and in it stand out with it. agrees: in most networks it is the paper's or a conjugate. partly: in
    most there is one, but in most it is not the paper's. differs: in most there is none. not reached: half
    of the networks asked for, or more, do not know it.
    """
    asked = fig3_embeddings.where(lambda run: run.operation == S5 and run.n == 5 and run.weight_decay > 0)
    shown = [record for record in asked if structure.has_rows(record) and structure.knows(record)]
    if 2 * len(shown) <= len(asked.runs):
        text = f"{len(shown)} of {len(asked.runs)} networks know S5 product."
        return verdict("not reached", len(shown), text, asked, S5)
    paper, tables = cosets.paper_subgroup().name, [structure.row_test(record) for record in shown]
    largest = [table.iloc[0].to_dict() for table in tables if table["p_corrected"].iloc[0] <= ALPHA]
    n_paper = [row["name"] for row in largest].count(paper)
    kind = "agrees" if 2 * n_paper > len(shown) else "partly" if 2 * len(largest) > len(shown) else "differs"
    text = f"A subgroup stands out in {len(largest)} of {len(shown)} networks, and most of all the paper's, "
    text += f"{paper}, in {n_paper}. Largest z by network: "
    text += "; ".join(_largest_z(table, paper) for table in tables)
    return verdict(kind, len(shown), f"{text}.", asked, S5)


def _largest_z(table: pd.DataFrame, paper: str) -> str:
    """The first row of a coset test in words, and the largest z of the paper's subgroup."""
    row, theirs = table.iloc[0].to_dict(), table.loc[table["name"].eq(paper), "z"].max()
    found = f"{row['z']:.1f} for {row['name']} (order {row['order']}, p = {row['p_corrected']:.2g})"
    return found if row["name"] == paper else f"{found}, {theirs:.1f} for {paper}"


@claim("figure 3, right", "The output rows of addition lie along a number line whose step is 8.")
def c18(fig3_embeddings: Records) -> Verdict:
    """Decided by `number_line.line_test` on networks with weight decay that know x+y mod 97.

    To multiply all residues by a number leaves addition what it is, so that a network is free to choose the
    step: a line of another step is the same in kind. agrees: in most networks a step stands out, with a
    corrected p of ALPHA or less. partly: in some. differs: in none. The steps are listed; s is also p - s.
    not reached: half of the networks asked for, or more, do not know it.
    """
    asked = fig3_embeddings.where(lambda run: run.operation == "x+y" and run.p == 97 and run.weight_decay > 0)
    shown = [record for record in asked if structure.has_rows(record) and structure.knows(record)]
    if 2 * len(shown) <= len(asked.runs):
        text = f"{len(shown)} of {len(asked.runs)} networks know x+y mod 97."
        return verdict("not reached", len(shown), text, asked, "x+y")
    largest = [structure.row_test(record).iloc[0].to_dict() for record in shown]
    steps = [row["step"] for row in largest if row["p_corrected"] <= ALPHA]
    kind = "agrees" if 2 * len(steps) > len(shown) else "partly" if steps else "differs"
    text = f"A line stands out in {len(steps)} of {len(shown)} networks, of step 8 in {steps.count(8)}. "
    text += "Largest z by network: "
    text += "; ".join(f"{r['z']:.1f} for step {r['step']:g} (p = {r['p_corrected']:.2g})" for r in largest)
    return verdict(kind, len(shown), f"{text}.", asked, "x+y")


@claim("section 3.4", "The structure of the output rows is clearer with weight decay than without.")
def c19(fig3_embeddings: Records) -> Verdict:
    """Decided by pairs of networks, with weight decay and without, else the same; the former know the task.

    Clearer is a larger z of what stands out most, see C17 and C18. agrees: in most pairs of each operation,
    and most of the networks without decay know the task as well. partly: in most pairs of one operation
    only, or most of the networks without decay do not know it, so that more than decay sets them apart.
    differs: in most pairs of neither. not reached: an operation has no pair.
    """
    asked = {words.task(run) for run in fig3_embeddings.runs}
    pairs = structure.decay_pairs(fig3_embeddings)
    by_task = {str(task): list(group["more"]) for task, group in pairs.groupby("task", sort=False)}
    kind = kind_of([2 * sum(z > 0 for z in more) > len(more) for more in by_task.values()])
    n_know = sum(pairs["knows_without"])
    if not asked or set(by_task) != asked:
        kind = "not reached"
    elif kind == "agrees" and 2 * n_know <= len(pairs):
        kind = "partly"
    text = [f"{task}: z is larger with decay by {measures.interval(more)}." for task, more in by_task.items()]
    text.append(f"{n_know} of {len(pairs)} networks without decay know their task.")
    return verdict(kind, 2 * len(pairs), " ".join(text), fig3_embeddings)
