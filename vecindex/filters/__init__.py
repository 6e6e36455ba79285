"""The `where` grammar: which records a filter keeps, told record by record.

A filter is a mapping. Several keys mean *and*::

    {"topic": "premiums", "year": {"$gte": 2023, "$lt": 2026}}
    {"$or": [{"lang": {"$in": ["en", "es"]}}, {"$not": {"draft": True}}]}

========== ==================== ============================================================
operator   operand              a record is kept if its value
========== ==================== ============================================================
`$eq`      any value            equals it; `{"a": 1}` is short for `{"a": {"$eq": 1}}`
`$ne`      any value            does not equal it, or is missing; `$neq` is the same
`$gt` ...  number, str, bytes,  is of the same kind and greater; `$gte`, `$lt`, `$lte`
           datetime, date
`$in`      list                 equals one of them; of a list: it or any of its elements does
`$nin`     list                 is not `$in`, or is missing
`$contains` any value           is a list with such an element, or a str with such a substring
`$exists`  bool                 is there (None counts as there), or is not
`$not`     operators            does not pass them, or is missing
========== ==================== ============================================================

`$and` and `$or` take a list of filters, `$not` before a key takes one filter.

- A missing key passes no test but `$ne`, `$neq`, `$nin`, `$not` and `$exists: False`.
- Kinds never mix: `True` is not 1, `"1"` is not 1, None equals only None, a naive datetime is not
  comparable with an aware one. Comparing two kinds is false, never an error. An int and a float
  compare by value. NaN equals nothing, itself included.
- `"a.b"` reaches into nested mappings. A literal key that holds the dot goes first, the longest
  one at each level; lists on the way are not entered.
- `{}` keeps every record.
"""

from vecindex.filters.grammar import parse
from vecindex.filters.nodes import And, Condition, Filter, Node, Not, Or

__all__ = ["parse", "Filter", "Node", "Condition", "And", "Or", "Not"]
