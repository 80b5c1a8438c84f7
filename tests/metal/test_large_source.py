"""Sources of thousands of lines with hundreds of instantiations: all are listed, only what is asked for is compiled.
benches/softmetal.py has the times."""

from __future__ import annotations

from kernel_runs import execute, softmax
from large_source import PARTS, large_source

from metallic import metal
from parity import F32, assert_close


def test_only_what_is_asked_for_is_compiled(tmp_path, monkeypatch, rng):
    monkeypatch.setenv("METALLIC_CACHE_DIR", str(tmp_path))
    source = large_source()
    assert source.count("\n") > 4000
    library = metal.Library(source)
    names = library.function_names
    assert len(names) == 3 * PARTS
    assert names[:4] == ["softmax0_float32", "softmax0_float16", "softmax0_bfloat16", "softmax1_float32"]
    assert list(tmp_path.glob("kernel-*")) == [], "listing compiles nothing"
    function = library.function(f"softmax{PARTS - 1}_float32")
    (compiled,) = tmp_path.glob("kernel-*.so")
    assert b"softmax0" not in compiled.read_bytes(), "one instantiation, not all"
    case = softmax(F32, rng)
    execute(case, lambda step: function)
    assert_close(case.result, case.reference, case.error)
    metal.Library(source).function(f"softmax{PARTS - 1}_float32")
    assert list(tmp_path.glob("kernel-*.so")) == [compiled], "asked for again, it is taken from the folder"
    metal.Library(source).function("softmax3_float16")
    assert len(list(tmp_path.glob("kernel-*.so"))) == 2
