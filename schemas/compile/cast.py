"""Text -> a typed value, or NULL where the text, as written, is no value of the type.

DuckDB's casts bend values rather than refuse them ('1.5' as INTEGER is 2, a zone behind a
TIMESTAMP is dropped), so each cast here is followed by a check that nothing was bent.
"""

from __future__ import annotations

from schemas import column_types
from schemas.compile import sql

MEANING = 2

# as JSON writes numbers
NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6}0*)?)?"
NANOSECONDS = r"\.[0-9]{6}0*[1-9]"
ZONE = r"[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?"
# what ISO 8601, Python and every client can show; DuckDB goes on in both directions
WITHIN = {
    "DATE": "BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'",
    "TIMESTAMP": "BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59.999999'",
}

# what a column takes from JSON: a string, a number or a word as it is, or (DECIMAL) either
IN_STRINGS = ("VARCHAR", "DATE", "TIMESTAMP")


def of_text(type_name: str, text: str) -> str:
    """SQL of the value of type `type_name` that the SQL expression `text` spells."""
    if type_name == "VARCHAR":
        return text
    if type_name == "BOOLEAN":
        return of_word(type_name, text)
    if type_name in column_types.INTEGERS:
        return of_word(type_name, text)
    if type_name == "DATE":
        value = f"TRY_CAST({text} AS DATE)"
        return _unbent(text, f"CASE WHEN {value} {WITHIN['DATE']} THEN {value} END")
    if type_name == "TIMESTAMP":
        return _timestamp(text)
    if type_name == "DOUBLE":
        return f"CASE WHEN {_matches(text, NUMBER)} THEN {of_word(type_name, text)} END"
    if type_name == "JSON":
        return f"CASE WHEN json_valid({text}) THEN CAST({text} AS JSON) END"
    decimal = column_types.decimal(type_name)
    assert decimal is not None, type_name
    behind = rf"(\.[0-9]{{1,{decimal[1]}}}0*)?" if decimal[1] else r"(\.0+)?"
    pattern = rf"-?(0|[1-9][0-9]*){behind}"
    return f"CASE WHEN {_matches(text, pattern)} THEN TRY_CAST({text} AS {type_name}) END"


def of_word(type_name: str, text: str) -> str:
    """SQL of an integer, a DOUBLE or a BOOLEAN from what JSON writes without quotes: a number, of
    which the parser has judged the form, `true`, `false`, or something that makes none of them."""
    if type_name == "BOOLEAN":
        return f"CASE {text} WHEN 'true' THEN true WHEN 'false' THEN false END"
    value = f"TRY_CAST({text} AS {type_name})"
    if type_name == "DOUBLE":
        return f"CASE WHEN isfinite({value}) THEN {value} END"
    return _unbent(text, value)


def of_json_number(type_name: str, name: str, text: str, exact: str, document: str) -> str:
    """SQL of a DECIMAL that stands as a number under the key `name` of the JSON text `document`.

    `text` is that number as the parser prints it, from a DOUBLE; `exact` is it with all digits up
    to `exact_scale` behind the point, rounded there. What may have been lost by the rounding is
    refused: a digit behind, or what an exponent moved there.
    """
    beyond = exact_scale(type_name)
    lost = rf"\.[0-9]{{{beyond}}}[0-9]*[1-9]"
    if beyond == (column_types.decimal(type_name) or (0, 0))[1]:
        lost += "|[0-9.]*[eE]-"
    pattern = rf'"{name}"\s*:\s*-?[0-9]+(?:{lost})'
    bent = f"regexp_matches({document}, {sql.text(pattern)})"
    value = f"TRY_CAST({exact} AS {type_name})"
    kept = f"{value} = {exact} AND ({exact} <> 0 OR TRY_CAST({text} AS DOUBLE) = 0)"
    return f"CASE WHEN {kept} AND NOT {bent} THEN {value} END"


def of_value(type_name: str, value: str) -> str:
    """SQL of a value of type `type_name` that the SQL expression `value`, of any type, has, or NULL
    where it would be bent. A text is read as strictly as a field of an event. The type of the
    expression is not known here, so every branch must be one for all types."""
    casted, text = f"TRY_CAST({value} AS {type_name})", f"CAST({value} AS VARCHAR)"
    if type_name == "VARCHAR":
        return text
    if type_name == "JSON":
        return f"TRY(CAST({value} AS JSON))"
    if type_name in ("DATE", "TIMESTAMP"):
        # a DATE is its midnight, and a TIMESTAMPTZ is an instant, as a TIMESTAMP in UTC is
        same = f"TRY_CAST({casted} AS TIMESTAMPTZ) = TRY_CAST({value} AS TIMESTAMPTZ)"
        # digits behind the sixth are cut on both sides
        fine = f"regexp_matches({text}, {sql.text(NANOSECONDS)})"
        kept = f"{same} AND NOT {fine} AND {casted} {WITHIN[type_name]}"
    elif type_name == "DOUBLE":
        kept = "true"
    else:
        # a DOUBLE is exactly what it prints, which may be with an exponent; others print digits
        same = f"TRY_CAST({casted} AS DOUBLE) = TRY_CAST({value} AS DOUBLE)"
        whole = type_name in column_types.INTEGERS
        digits = f"regexp_replace({text}, '\\.0+$', '')" if whole else text
        exact = f"{of_text(type_name, digits)} IS NOT NULL"
        doubles = f"typeof({value}) IN ('DOUBLE', 'FLOAT', 'BOOLEAN', 'INTEGER')"
        kept = f"CASE WHEN {doubles} THEN {same} ELSE {exact} END"
    return (
        f"CASE WHEN typeof({value}) IN ('VARCHAR', 'JSON') THEN {of_text(type_name, text)} "
        f"WHEN {kept} THEN {casted} END"
    )


def exact_scale(type_name: str) -> int:
    """Digits behind the point that a DECIMAL of 38 digits has left beside the column's own before
    it."""
    width, scale = column_types.decimal(type_name) or (0, 0)
    return 38 - (width - scale)


def _timestamp(text: str) -> str:
    """ISO 8601; a zone is converted to UTC, no zone means UTC."""
    local = f"TRY_CAST({text} AS TIMESTAMP)"
    zoned = f"CAST(TRY_CAST({text} AS TIMESTAMPTZ) AS TIMESTAMP)"
    # a zone of zero needs no conversion, and that is what most events carry
    plain = _matches(text, f"{DAY}([T ]{CLOCK}Z?)?")
    offset = _matches(text, f"{DAY}[T ]{CLOCK}{ZONE}")
    within = WITHIN["TIMESTAMP"]
    return (
        f"CASE WHEN {plain} THEN CASE WHEN {local} {within} THEN {local} END "
        f"WHEN {offset} THEN CASE WHEN {zoned} {within} THEN {zoned} END END"
    )


def _unbent(text: str, value: str) -> str:
    return f"CASE WHEN CAST({value} AS VARCHAR) = {text} THEN {value} END"


def _matches(text: str, pattern: str) -> str:
    return f"regexp_full_match({text}, {sql.text(pattern)})"
