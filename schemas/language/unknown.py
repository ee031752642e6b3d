"""Statements that define nothing: what was probably meant, or where else that is done."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot.tokenizer_core import Token

from schemas.language import near
from schemas.language.statement import Kind

ALLOWED = "CREATE STREAM, CREATE TABLE or CREATE VIEW"
KINDS: dict[str, Kind] = {"STREAM": "stream", "TABLE": "table", "VIEW": "view"}
DEPLOY = "`everview deploy` registers what is new or changed"
# what stands between CREATE and the kind, and why it is not needed
BETWEEN = {
    "OR": DEPLOY,
    "MATERIALIZED": "every view is kept as it is counted",
    "TEMP": "every definition is kept until another one is deployed",
    "TEMPORARY": "every definition is kept until another one is deployed",
    "PERSISTENT": "every definition is kept until another one is deployed",
    "EXTERNAL": "a table is a file of the project, a stream a topic",
    "RECURSIVE": "a view reads one stream",
}
# first word -> what to do instead
QUERY = "A query is run by `everview sql`, a view is CREATE VIEW name AS ..."
CLAUSES = ("WHERE", "GROUP BY", "HAVING", "ORDER BY", "LIMIT", "JOIN", "LEFT", "AND", "AS")
INSTEAD = {
    "SELECT": QUERY,
    "FROM": QUERY,
    "WITH": QUERY,
    **dict.fromkeys(CLAUSES, "A semicolon ended the statement before it"),
    "INSERT": "Events are sent to a stream by `everview produce`",
    "UPDATE": "Events are not changed, and files of tables are written anew",
    "DELETE": "`everview retain` lets go of old events",
    "ALTER": f"Change the definition itself; {DEPLOY}",
}
NOTHING = "Nothing else is run"
SIMILAR = 0.65


def statement(tokens: Sequence[Token]) -> tuple[Token, Token, str]:
    """The first and the last token that are wrong, and why."""
    words = [token.text.upper() for token in tokens[:4]]
    shown = " ".join(token.text for token in tokens[:2])[:80]
    first = near.miss(words[0], ["CREATE"], SIMILAR)
    kinds = [at for at, word in enumerate(words) if at and word in KINDS]
    if words[0] == "CREATE" and kinds and words[1] in BETWEEN:
        got = " ".join(words[1 : kinds[0]])
        message = f"CREATE must be followed by STREAM, TABLE or VIEW; got {got}"
        last = tokens[kinds[0] - 1]
        return tokens[1], last, f"{message}. Leave it out: {BETWEEN[words[1]]}"
    message = f"statement must be {ALLOWED}; got {shown}"
    if words[0] == "CREATE" and len(words) > 1:
        close = near.miss(words[1], KINDS, SIMILAR)
        hint = f"; did you mean CREATE {close}?" if close else f". {NOTHING}"
        return tokens[1], tokens[1], message + hint
    if first and words[0] != "CREATE":
        return tokens[0], tokens[0], f"{message}; did you mean CREATE?"
    if words[0] in KINDS:
        return tokens[0], tokens[0], f"{message}; did you mean CREATE {words[0]}?"
    way_out = f". {INSTEAD[words[0]]}" if words[0] in INSTEAD else ""
    return tokens[0], tokens[0], f"{message}. {NOTHING}{way_out}"


def name(tokens: Sequence[Token]) -> str:
    """The name that a statement which cannot be read would define, if one can be told."""
    texts = [token.text for token in tokens[:7]]
    if near.miss(texts[0], ["CREATE"], SIMILAR) is None:
        return ""
    words = ["CREATE", "OR", "REPLACE", "IF", "NOT", "EXISTS", *KINDS, *BETWEEN]
    left = (text for text in texts if near.miss(text, words, SIMILAR) is None)
    return next(left, "")
