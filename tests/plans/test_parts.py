"""Parts of plans: what is asked of runs, and the order in which several plans are swept."""

import random
import time

import pytest

from grokking_core.paper import experiments
from grokking_core.plans import Part, Plan, merged
from grokking_core.records.store import Store
from grokking_core.runs.record import utc_now
from grokking_core.runs.run import Run
from grokking_core.sweeps import sweep
from grokking_core.sweeps.trainer import Trainer

pytestmark = pytest.mark.usefixtures("own_folders", "one_thread")

TINY = {"operation": "x+y", "p": 7, "train_fraction": 0.7, "d_model": 8, "n_heads": 2}
SHORT = {"p": 7, "n": 3, "d_model": 8, "n_heads": 2, "addition_steps": 30, "product_steps": 20, "n_frames": 4}


def tiny_plan(seeds=(0, 1), steps=(20, 30)) -> Plan:
    """One part for each number of steps."""
    return Plan(tuple(Part(runs=tuple(Run(**TINY, seed=s) for s in seeds), steps=n) for n in steps))


def test_plan_joins_its_parts():
    records = tiny_plan().sweep(progress=False)
    assert [record.last_step for record in records] == [20, 20, 30, 30]
    assert [record.run.seed for record in records] == [0, 1, 0, 1]


def test_reading_a_plan_trains_nothing():
    plan = tiny_plan(steps=(20,))
    assert plan.read().missing == list(plan.runs)
    sweep(plan.runs[:1], 20, progress=False)
    records = plan.read()
    assert [record.run for record in records] == [plan.runs[0]]
    assert records.missing == [plan.runs[1]]
    assert sum(entry.kind == "record" for entry in Store().entries()) == 1


def test_plan_only_reads_where_the_book_has_trained(monkeypatch):
    plan = tiny_plan(steps=(20,))
    sweep(plan.runs[:1], 20, progress=False)
    between = utc_now()
    time.sleep(0.002)
    sweep(plan.runs[1:], 20, progress=False)
    monkeypatch.setenv("GROKKING_TRAINED_SINCE", between)
    records = plan.sweep()
    assert (records.n_read, records.n_trained, records.missing) == (1, 1, [])
    assert len(tiny_plan(seeds=(2, 3), steps=(20,)).sweep().missing) == 2
    for nonsense in ("1", "2999-01-01"):
        monkeypatch.setenv("GROKKING_TRAINED_SINCE", nonsense)
        with pytest.raises(ValueError, match=f"GROKKING_TRAINED_SINCE={nonsense} (must be a date|lies in)"):
            plan.sweep()


def test_merged_plans_ask_the_longest_first_and_each_run_once():
    a, b, c = (Run(**TINY, seed=seed) for seed in range(3))
    short = Plan((Part(runs=(a, b), steps=20, stop_at=0.9, keep=("answers",)),))
    long = Plan((Part(runs=(a,), steps=50), Part(runs=(c,), steps=80, stop_at=0.9)))
    again = Plan((Part(runs=(a,), steps=20, stop_at=0.9, keep=("output_rows",)),))
    assert merged([short, long, again]) == [
        Part(runs=(a,), steps=50),
        Part(runs=(c,), steps=80, stop_at=0.9),
        Part(runs=(a,), steps=20, stop_at=0.9, keep=("answers", "output_rows")),
        Part(runs=(b,), steps=20, stop_at=0.9, keep=("answers",)),
    ]


def test_shorter_questions_about_runs_that_go_on_come_first():
    a, b = (Run(**TINY, seed=seed) for seed in range(2))
    film = Plan(tuple(Part(runs=(a,), steps=n, keep=("frame",), goes_on=n < 50) for n in (10, 50)))
    figure = Plan((Part(runs=(a, b), steps=80, stop_at=1.0, keep=("output_rows",)),))
    assert merged([figure, film]) == [
        Part(runs=(a,), steps=10, stop_at=1.0, keep=("frame",), goes_on=True),
        Part(runs=(a,), steps=50, stop_at=1.0, keep=("frame",), goes_on=True),
        Part(runs=(a,), steps=80, stop_at=1.0, keep=("output_rows",), goes_on=True),
        Part(runs=(a,), steps=10, keep=("frame",), goes_on=True),
        Part(runs=(a,), steps=50, keep=("frame",)),
        Part(runs=(b,), steps=80, stop_at=1.0, keep=("output_rows",)),
    ]


def ends_by(reached):
    """The step at which a question about a run ends, which reaches each validation accuracy at a step."""
    return lambda steps, stop_at: min(steps, reached.get(stop_at, steps))


@pytest.mark.parametrize("seed", range(40))
def test_run_that_goes_on_never_goes_back_wherever_it_reaches_its_stop_rules(seed):
    """A question is answered where the run is, or of what was kept where it has been."""
    draw = random.Random(seed)
    stops = [None, 0.9, 0.99, 1.0]
    steps = sorted(draw.sample(range(1, 100), 8))
    run, names = Run(**TINY), ("frame", "output_rows", "sharpness")
    film = Plan(tuple(Part(runs=(run,), steps=n, keep=names[:1], goes_on=n < steps[-1]) for n in steps))
    asked = [Part(runs=(run,), steps=draw.randrange(1, 200), stop_at=draw.choice(stops), keep=(name,))
             for name in names for _ in range(2)]  # fmt: skip
    reached = zip(stops[1:], sorted(draw.sample(range(1, 250), 3)), strict=True)
    end, at, kept = ends_by(dict(reached)), 0, {}
    for part in merged([film, Plan(tuple(asked))]):
        step = end(part.steps, part.stop_at)
        if step > at or not set(part.keep) <= kept.get(step, set()):
            assert step >= at, "the run would begin again"
            at = step
            kept.setdefault(step, set()).update(part.keep)
    for part in (*film.parts, *asked):
        assert set(part.keep) <= kept[end(part.steps, part.stop_at)]


@pytest.fixture
def begun(monkeypatch):
    """Seed and step of every trajectory that training begins with."""
    found, start = [], Trainer.start

    def watched(self, runs, stop):
        trajectories = start(self, runs, stop)
        found.extend((t.run.seed, t.step) for t in trajectories)
        return trajectories

    monkeypatch.setattr(Trainer, "start", watched)
    return found


def highest_yet(record):
    """Steps from 2 on at which validation accuracy is higher than ever before, and how high."""
    accuracy = record.curve.set_index("step")["validation_accuracy"]
    return accuracy[accuracy > accuracy.cummax().shift(fill_value=1.0)].loc[2:]


def test_no_run_is_trained_twice_for_a_film_and_figures_that_stop_it(begun, tmp_path):
    """The stop rules are met between frames, and each of the figures keeps something of its own."""
    alone = sweep([Run(**TINY, lr=3e-3, seed=s) for s in range(20)], 300, store=tmp_path, progress=False)
    whole = next(record for record in alone if len(highest_yet(record)) > 1)
    met, run = highest_yet(whole), whole.run
    begun.clear()
    frames = [n for n in (1, 50, 100, 300) if n not in met.index]
    film = Plan(tuple(Part(runs=(run,), steps=n, keep=("frame",), goes_on=n < 300) for n in frames))
    figures = [Plan((Part(runs=(run,), steps=300, stop_at=stop, keep=(name,)),))
               for stop, name in zip(met.iloc[-2:], ("output_rows", "answers"), strict=True)]  # fmt: skip
    for part in merged([*figures, film]):
        asked = {"keep": part.keep, "keep_checkpoints": part.goes_on}
        sweep(part.runs, part.steps, part.stop_at, **asked, progress=False)
    steps = [step for _, step in begun]
    assert steps == sorted(steps)
    assert steps.count(0) == 1
    for plan in (film, *figures):
        assert plan.read().missing == []
    assert [plan.read()[0].last_step for plan in figures] == met.index[-2:].tolist()
    assert whole.curve.equals(film.read()[-1].curve)
    assert "checkpoint" not in Store().usage()


def test_film_goes_on_from_frame_to_frame(begun):
    plan = experiments.film(**experiments.load_profile("smoke")["film"] | SHORT)
    records = plan.sweep(progress=False)
    assert [step for _, step in begun].count(0) == len(plan.runs) == 2
    assert [record.last_step for record in records] == [part.steps for part in plan.parts]
    assert all("frame" in record.kept for record in records)
    assert (records.n_trained, records.asked) == (2, ((30, None), (20, None)))
    again = plan.read()
    assert (again.n_read, again.missing, again.asked) == (2, [], records.asked)
