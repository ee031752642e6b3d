"""The law on generated (stream, view, events, split) cases.

    streams.py, values.py   declarations, and events whose meaning is said in Python
    views.py, calls.py      views; every call of an aggregate that is legal, found by asking
    splits.py               events into tasks, partials into runs, batch and speed
    case.py, judging.py     the verdict: same bits for both splits, and DuckDB's own answer
    running.py              so many cases of a seed, several views and rounds of events per stream
    shrinking.py, script.py a case that fails made small, and written as a program
    __main__.py             very many cases, for a night

The generator is seeded random and not Hypothesis: it makes a thousand cases in the time in which
Hypothesis makes some dozens, as all views of a stream share one reading, one parse of the events
and the engines, while Hypothesis would make, and repeat, each case alone. A case is known by its
seed and number, and the shrinker works on its pieces (items of the view, events, tasks, the tree)
instead of on the choices behind them.
"""
