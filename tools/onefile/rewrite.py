"""Python 3.11 to Python 3.8, mechanically: the few things pathfit's modules use that came in between.

What only the type checker reads becomes text (annotations, aliases of types); what runs is written with names of
shim.py. What cannot be rewritten is an error here, never a surprise there.
"""

import ast

LATER = {  # names that are imported, and came after 3.8: shim.py has them
    ("enum", "StrEnum"): "StrEnum",
    ("typing", "Self"): "Self",
    ("functools", "cache"): "cache",
}
CUT = {"removeprefix": "without_start", "removesuffix": "without_end"}
GENERIC = frozenset(("dict", "list", "tuple", "set", "frozenset", "type"))  # cannot be subscripted before 3.9
SHIM = "msgspec"


class NotRewritable(Exception):
    """A construct of a module that Python 3.8 does not know and this file has no way around."""


def rewrite(source: str, name: str) -> str:
    """The module's source for Python 3.8, without comments and without docstrings but its own.

    Raises NotRewritable.
    """
    tree = ast.parse(source, name)
    doc = ast.get_docstring(tree, clean=False)
    tree = _Rewriter(name).visit(tree)
    body = [x for x in tree.body if not (isinstance(x, ast.ImportFrom) and x.module == "__future__")]
    if doc is not None:
        body = body[1:]
    ahead: list[ast.stmt] = [ast.Expr(ast.Constant(doc))] if doc is not None else []
    ahead.append(ast.ImportFrom(module="__future__", names=[ast.alias("annotations")], level=0))
    text = ast.unparse(ast.fix_missing_locations(ast.Module([*ahead, *body], [])))
    if f"{SHIM}_38." in text:
        text = text.replace(
            "from __future__ import annotations\n", f"from __future__ import annotations\nimport {SHIM} as {SHIM}_38\n"
        )
    try:
        ast.parse(text, name, feature_version=(3, 8))
    except SyntaxError as e:
        raise NotRewritable(f"{name}: {e}") from None
    return text + "\n"


class _Rewriter(ast.NodeTransformer):
    def __init__(self, name: str) -> None:
        self.name = name

    def _refuse(self, node: ast.AST, what: str) -> NotRewritable:
        return NotRewritable(f"{self.name}:{getattr(node, 'lineno', 0)}: {what}")

    # -- what only the type checker reads ---------------------------------------------------------------------------

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        test = node.test
        if isinstance(test, ast.Name) and test.id == "TYPE_CHECKING":
            return [self.visit(x) for x in node.orelse]
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node

    def _function(self, node: ast.FunctionDef) -> ast.AST:
        node.body = _bare(node)
        node.args.defaults = [self.visit(x) for x in node.args.defaults]
        node.args.kw_defaults = [None if x is None else self.visit(x) for x in node.args.kw_defaults]
        node.decorator_list = [self.visit(x) for x in node.decorator_list]
        node.body = self._block(node.body)
        return node

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for statement in body:
            done = self.visit(statement)
            out += done if isinstance(done, list) else [done]
        return out or [ast.Pass()]

    visit_FunctionDef = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = _bare(node)
        node.bases = [_without_types(x) for x in node.bases]
        return self.generic_visit(node)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = [_alias(x) for x in node.body]
        return self.generic_visit(node)

    # -- what runs ------------------------------------------------------------------------------------------------

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.stmt]:
        later = [a for a in node.names if (node.module, a.name) in LATER]
        kept = [a for a in node.names if a not in later]
        out: list[ast.stmt] = []
        if later:
            names = [ast.alias(LATER[node.module or "", a.name], a.asname or a.name) for a in later]
            out.append(ast.ImportFrom(module=SHIM, names=names, level=0))
        if kept:
            out.append(ast.ImportFrom(module=node.module, names=kept, level=node.level))
        return out

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.BitOr):
            return node
        return _call("or_", node.left, node.right)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        if isinstance(node.op, ast.BitOr) and isinstance(node.value, (ast.Dict, ast.DictComp)):
            raise self._refuse(node, "|= of a dictionary (3.9)")
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_test = isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass")
        if is_test and len(node.args) == 2 and isinstance(node.args[1], ast.BinOp):
            node.args[1] = ast.Tuple(_members(node.args[1]), ast.Load())
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "zip":
            node.keywords = [k for k in node.keywords if k.arg != "strict"]  # 3.10; a check of ours, made in tests
        if isinstance(node.func, ast.Attribute) and node.func.attr in CUT:
            return _call(CUT[node.func.attr], node.func.value, *node.args)
        return node

    def visit_Match(self, node: ast.Match) -> ast.AST:
        """``match`` (3.10) over classes and values of a name, as if and elif."""
        if not isinstance(node.subject, ast.Name):
            raise self._refuse(node, "match over more than a name")
        rest: list[ast.stmt] = []
        for case in reversed(node.cases):
            test = self._test(node.subject, case.pattern)
            if case.guard is not None:
                test = ast.BoolOp(ast.And(), [test, case.guard])
            rest = [ast.If(self.visit(test), self._block(case.body), rest)]
        return rest[0]

    def _test(self, subject: ast.Name, pattern: ast.pattern) -> ast.expr:
        if isinstance(pattern, ast.MatchClass) and not (pattern.patterns or pattern.kwd_patterns):
            return ast.Call(ast.Name("isinstance", ast.Load()), [subject, pattern.cls], [])
        if isinstance(pattern, ast.MatchValue):
            return ast.Compare(subject, [ast.Eq()], [pattern.value])
        if isinstance(pattern, ast.MatchSingleton):
            return ast.Compare(subject, [ast.Is()], [ast.Constant(pattern.value)])
        if isinstance(pattern, ast.MatchOr):
            return ast.BoolOp(ast.Or(), [self._test(subject, p) for p in pattern.patterns])
        if isinstance(pattern, ast.MatchAs) and pattern.pattern is None and pattern.name is None:
            return ast.Constant(True)
        raise self._refuse(pattern, "a pattern that takes something apart")

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if isinstance(node.slice, ast.Tuple) and any(isinstance(x, ast.Starred) for x in node.slice.elts):
            raise self._refuse(node, "a star in an index (3.11)")
        return self.generic_visit(node)

    def visit_TryStar(self, node: ast.AST) -> ast.AST:
        raise self._refuse(node, "except* (3.11)")


def _call(name: str, *args: ast.expr) -> ast.Call:
    function = ast.Attribute(ast.Name(f"{SHIM}_38", ast.Load()), name, ast.Load())
    return ast.Call(function, list(args), [])


def _bare(node: ast.FunctionDef | ast.ClassDef) -> list[ast.stmt]:
    """The body without its docstring."""
    return (node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body) or [ast.Pass()]


def _members(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_members(node.left), *_members(node.right)]
    return [node]


def _without_types(node: ast.expr) -> ast.expr:
    """A base class without its parameters: those of builtins and abstract classes came with 3.9."""
    plain = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id != "Generic"
    return node.value if plain and isinstance(node, ast.Subscript) else node


def _alias(node: ast.stmt) -> ast.stmt:
    """A name for a type becomes the text of it: every use of it is an annotation, and those are text."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        name = node.targets[0].id
        if name[:1].isupper() and not name.isupper() and _is_type(node.value):
            return ast.Assign(list(node.targets), ast.Constant(ast.unparse(node.value)), lineno=node.lineno)
    return node


def _is_type(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitOr) and _is_type(node.left) and _is_type(node.right)
    if isinstance(node, ast.Subscript):
        name = node.value.id if isinstance(node.value, ast.Name) else ""
        return name in GENERIC or name[:1].isupper()
    if isinstance(node, ast.Constant):
        return node.value is None
    return isinstance(node, ast.Name) and (node.id[:1].isupper() or node.id in ("str", "int", "float", "bool", "bytes"))
