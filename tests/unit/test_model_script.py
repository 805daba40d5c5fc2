"""Model scripts: every documented form is read, everything else is refused, print and parse are inverse."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.errors import SpecError
from hefjoin.formats.model_script import Command, Glob, Script, Value, Word, merge, parse, scoped
from hefjoin.formats.model_script_commands import COMMANDS

EVERY_FORM = """
# a comment, then a blank line

stereo/normalization1, stereo/normalization2 = normalization([123.675, -1.5, .5], [1e-3, 5., +2])  # after a command
reshape, yuv_to_rgb1 = input_conversion(input_layer1, nv12_to_rgb, emulator_support = True)
post_quantization_optimization(finetune, policy=enabled,  # inside a bracket
    loss_layer_names=[conv14,

        conv15],
    # between arguments
    loss_types=[l2, l2rel])
nms_postprocess("../cfg/a#b.json", meta_arch=yolov8, engine=cpu)
nms_postprocess(meta_arch='ssd')
allocator_param(timeout=25m)
\tquantization_param({scope/conv_splitter[0-9]*_[2-3]}, precision_mode=a16_w16)
concat_from_ew_sub7-9 = concat([ew_sub7, ew_sub8], concat_1)
context_0 = context([])
context_0.place(1, [conv1, demuxer-shortcut_6])
x = logits_layer(fc1, softmax, -1, cpu)
net_context_1.place(-2.5e+3, [{*output_layer*}, 'a b'])  # "quoted" [brackets]
performance_param(fps=null)"""


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        parse(text, "a.alls")
    return [(path, message) for path, message in caught.value.problems]


def only_problem(text: str) -> tuple[str, str]:
    (problem,) = problems(text)
    return problem


class TestParse:
    def test_reads_every_documented_form(self) -> None:
        expected = [
            Command(
                ("stereo/normalization1", "stereo/normalization2"),
                "normalization",
                ((123.675, -1.5, 0.5), (0.001, 5.0, 2)),
            ),
            Command(
                ("reshape", "yuv_to_rgb1"),
                "input_conversion",
                (Word("input_layer1"), Word("nv12_to_rgb")),
                (("emulator_support", True),),
            ),
            Command(
                (),
                "post_quantization_optimization",
                (Word("finetune"),),
                (
                    ("policy", Word("enabled")),
                    ("loss_layer_names", (Word("conv14"), Word("conv15"))),
                    ("loss_types", (Word("l2"), Word("l2rel"))),
                ),
            ),
            Command(
                (),
                "nms_postprocess",
                ("../cfg/a#b.json",),
                (("meta_arch", Word("yolov8")), ("engine", Word("cpu"))),
            ),
            Command((), "nms_postprocess", (), (("meta_arch", "ssd"),)),
            Command((), "allocator_param", (), (("timeout", Word("25m")),)),
            Command(
                (),
                "quantization_param",
                (Glob("scope/conv_splitter[0-9]*_[2-3]"),),
                (("precision_mode", Word("a16_w16")),),
            ),
            Command(("concat_from_ew_sub7-9",), "concat", ((Word("ew_sub7"), Word("ew_sub8")), Word("concat_1"))),
            Command(("context_0",), "context", ((),)),
            Command((), "place", (1, (Word("conv1"), Word("demuxer-shortcut_6"))), owner="context_0"),
            Command(("x",), "logits_layer", (Word("fc1"), Word("softmax"), -1, Word("cpu"))),
            Command((), "place", (-2500.0, (Glob("*output_layer*"), "a b")), owner="net_context_1"),
            Command((), "performance_param", (), (("fps", Word("null")),)),
        ]
        assert repr(parse(EVERY_FORM).commands) == repr(tuple(expected))

    @pytest.mark.parametrize("text", ["", "\n\n", "# nothing", " \t\r\n"])
    def test_a_script_may_be_empty(self, text: str) -> None:
        assert parse(text) == Script()

    def test_windows_line_ends(self) -> None:
        assert parse(EVERY_FORM.replace("\n", "\r\n")) == parse(EVERY_FORM)

    def test_a_command_knows_where_it_stood(self) -> None:
        command = parse("\n n = normalization([0], [1])", "a.alls").commands[0]
        assert command.where == "a.alls:2:6"
        assert command == parse("n = normalization([0], [1])").commands[0]

    def test_get_returns_a_keyword_argument(self) -> None:
        command = parse("performance_param(fps=null)").commands[0]
        assert command.get("fps") == "null"
        assert command.get("optimize_for_batch", 1) == 1

    def test_importing_does_not_load_the_grammar(self) -> None:
        code = "import sys, hefjoin.formats.model_script; sys.exit('lark' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestRefusals:
    def test_all_problems_of_a_script_at_once(self) -> None:
        found = problems(
            "normalisation1 = normalisation([0], [1])\n"
            "normalization([0], [1])\n"
            "a = quantization_param(conv1, precison_mode=a8_w8)\n"
            "set_seed(seed=1e999)\n"
            "set_seed(seed=1, seed=2)\n"
            "x.set_seed(seed=1)\n"
        )
        assert [path for path, _ in found] == [
            "a.alls:1:18",
            "a.alls:2:1",
            "a.alls:3:5",
            "a.alls:3:5",
            "a.alls:4:15",
            "a.alls:5:18",
            "a.alls:6:3",
        ]
        assert "did you mean `normalization`" in found[0][1]
        assert "normalization1 = normalization(" in found[1][1]
        assert "drop `a =`" in found[2][1]
        assert "did you mean `precision_mode`" in found[3][1]

    def test_nothing_near_is_not_suggested(self) -> None:
        assert only_problem("zzzzzz()") == ("a.alls:1:1", "`zzzzzz` is not a known command")

    def test_a_value_after_keyword_arguments(self) -> None:
        assert "after its keyword" in only_problem("quantization_param(precision_mode=a8_w8, conv1)")[1]

    def test_a_syntax_error_shows_the_line_with_a_marker(self) -> None:
        path, message = only_problem("set_seed(seed=1)\nset_seed(seed=,)  # no value")
        assert path == "a.alls:2:15"
        assert message.splitlines()[1:] == [
            "    set_seed(seed=,)  # no value",
            "                  ^",
        ]

    def test_an_open_bracket_is_named_where_it_stands(self) -> None:
        path, message = only_problem("n = normalization([0, 1], [1,\nset_seed(seed=1)")
        assert path == "a.alls:2:9"
        assert "the `[` at 1:27 is still open" in message

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ('nms_postprocess("a.json, yolov5)', "a string is not closed"),
            ("quantization_param({conv*, precision_mode=a8_w8)", "a layer pattern is not closed"),
            ("n =\nnormalization([0], [1])", "found the end of the line"),
            ("set_seed(seed=1) set_seed(seed=1)", "expected the end of the line"),
            ("n = normalization([[0]], [1])", "found `[`"),
            ("set_seed(seed=1", "found the end of the script"),
            ("§", "unexpected character"),
        ],
    )
    def test_syntax_errors(self, text: str, part: str) -> None:
        assert part in only_problem(text)[1]

    @pytest.mark.parametrize(
        "name", sorted(name for name, signature in COMMANDS.items() if signature.creates is not None)
    )
    def test_the_left_hand_side_is_required_or_refused(self, name: str) -> None:
        good, bad = f"a = {name}()", f"{name}()"
        if not COMMANDS[name].creates:
            good, bad = bad, good
        assert parse(good).commands[0].name == name
        assert only_problem(bad)


words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}(/[a-z0-9_]{1,8})?(-[0-9])?", fullmatch=True)
scalars = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    words.filter(lambda word: word not in ("True", "False")).map(Word),
    st.text('ab1*?/[]-_#"=é', min_size=1, max_size=12).map(Glob),
    st.text(st.characters(exclude_characters='"\n', exclude_categories=["Cs"]), max_size=12),
)
values = st.one_of(scalars, st.lists(scalars, max_size=4).map(tuple))


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    commands = []
    for name in draw(st.lists(st.sampled_from(sorted(COMMANDS)), max_size=5)):
        signature = COMMANDS[name]
        keywords = words if signature.keywords is None else st.sampled_from(sorted(signature.keywords) or ["?"])
        most = 0 if signature.keywords == frozenset() else 3
        commands.append(
            Command(
                targets=tuple(draw(st.lists(words, min_size=1, max_size=3))) if signature.creates else (),
                name=name,
                args=tuple(draw(st.lists(values, max_size=3))),
                kwargs=tuple(draw(st.dictionaries(keywords, values, max_size=most)).items()),
                owner=draw(words) if name == "place" else "",
            )
        )
    return Script(tuple(commands))


class TestRoundTrip:
    @given(scripts())
    def test_print_then_parse_is_the_identity(self, script: Script) -> None:
        assert repr(parse(str(script))) == repr(script)

    def test_every_form(self) -> None:
        script = parse(EVERY_FORM)
        assert repr(parse(str(script))) == repr(script)

    @given(
        st.one_of(
            st.text(),
            st.text("ab1.-/=,()[]{}'\"# \n*", max_size=30),
            st.lists(
                st.sampled_from(["set_seed", "(", ")", "[", "]", "=", ",", "seed", "1", "9" * 5000, "\n", "{*}", "#"])
            ).map("".join),
        )
    )
    def test_any_text_gives_a_script_or_an_error_of_ours(self, text: str) -> None:
        try:
            script = parse(text)
        except SpecError:
            return
        assert repr(parse(str(script))) == repr(script)

    @pytest.mark.parametrize(
        "text",
        ["(", "[", "{", '"', "a,", "a=", "set_seed(", "set_seed(seed=1),", "set_seed(seed=1)\n", "9", "# ", "x.y"],
    )
    def test_a_long_text_takes_no_longer_than_its_length(self, text: str) -> None:
        """Twice the text takes about twice the time: no rule of the grammar goes back."""

        def seconds(count: int) -> float:
            start = time.process_time()
            with contextlib.suppress(SpecError):
                parse(text * count)
            return time.process_time() - start

        parse("")
        assert seconds(20_000 // len(text)) < 8 * seconds(5_000 // len(text)) + 0.1


class TestStages:
    def test_commands_of_a_stage_in_order(self) -> None:
        script = parse(
            "performance_param(fps=30)\nn = normalization([0], [1])\nset_seed(seed=1)\n"
            "quantization_param(conv1, precision_mode=a8_w4)\nchange_output_activation(sigmoid)\n"
        )

        def names(stage: Script) -> list[str]:
            return [command.name for command in stage.commands]

        assert names(script.stage("modification")) == ["normalization", "set_seed", "change_output_activation"]
        assert names(script.stage("optimization")) == ["set_seed", "quantization_param"]
        assert names(script.stage("compilation")) == ["performance_param", "set_seed"]


class TestScoped:
    @pytest.mark.parametrize(
        ("unscoped", "expected"),
        [
            ("n = normalization([0], [1])", "net/n = normalization([0], [1])"),
            ("n = normalization([0], [1], in1)", "net/n = normalization([0], [1], net/in1)"),
            ("b/n = normalization([0], [1], b/in1)", "b/n = normalization([0], [1], b/in1)"),
            ("c = input_conversion(bgr_to_rgb)", "net/c = input_conversion(bgr_to_rgb)"),
            ("a, b = input_conversion(in1, nv12_to_rgb)", "net/a, net/b = input_conversion(net/in1, nv12_to_rgb)"),
            ("r = resize(in1, resize_shapes=[4, 6])", "net/r = resize(net/in1, resize_shapes=[4, 6])"),
            ("x = logits_layer(fc1, softmax, -1, cpu)", "net/x = logits_layer(net/fc1, softmax, -1, cpu)"),
            ("change_output_activation(conv58, sigmoid)", "change_output_activation(net/conv58, sigmoid)"),
            ('nms_postprocess("a.json", ssd, engine=cpu)', 'nms_postprocess("a.json", ssd, engine=cpu)'),
            ("quantization_param({*}, precision_mode=a8_w4)", "quantization_param({net/*}, precision_mode=a8_w4)"),
            (
                "quantization_param([conv1, b/conv2, {ew*}], precision_mode=a8_w8)",
                "quantization_param([net/conv1, b/conv2, {net/ew*}], precision_mode=a8_w8)",
            ),
            (
                "model_optimization_config(negative_exponent, layers={*}, rank=0)",
                "model_optimization_config(negative_exponent, layers={net/*}, rank=0)",
            ),
            (
                "model_optimization_config(calibration, batch_size=8)",
                "model_optimization_config(calibration, batch_size=8)",
            ),
            (
                "pre_quantization_optimization(activation_clipping, layers=[conv4], mode=percentile)",
                "pre_quantization_optimization(activation_clipping, layers=[net/conv4], mode=percentile)",
            ),
            (
                "post_quantization_optimization(finetune, loss_layer_names=[conv1], loss_types=[l2])",
                "post_quantization_optimization(finetune, loss_layer_names=[net/conv1], loss_types=[l2])",
            ),
            ("buffers(conv1, conv2, 0, FULL_ROW)", "buffers(net/conv1, net/conv2, 0, FULL_ROW)"),
            ("context_0 = context([conv1])", "context_0 = context([net/conv1])"),
            ("context_0.place(1, [conv1])", "context_0.place(1, [net/conv1])"),
            ("g = network_group([net])", "g = network_group([net])"),
            ("context_switch_param(mode=disabled)", "context_switch_param(mode=disabled)"),
        ],
    )
    def test_layer_names_get_the_scope_and_nothing_else_does(self, unscoped: str, expected: str) -> None:
        once = scoped(parse(unscoped), "net")
        assert str(once) == f"{expected}\n"
        assert scoped(once, "net") == once

    def test_an_activation_of_all_outputs_is_written_for_each(self) -> None:
        script = scoped(parse("change_output_activation(sigmoid)"), "net", outputs=["conv5", "conv9"])
        assert str(script) == (
            "change_output_activation(net/conv5, sigmoid)\nchange_output_activation(net/conv9, sigmoid)\n"
        )

    def test_what_cannot_be_scoped_is_listed(self) -> None:
        script = parse("change_output_activation(tanh)\nremove_node(conv1)", "models[0].script")
        with pytest.raises(SpecError) as caught:
            scoped(script, "net")
        assert [problem.path for problem in caught.value.problems] == [
            "models[0].script:1:1",
            "models[0].script:2:1",
        ]


class TestMerge:
    def test_equal_commands_become_one_and_order_is_kept(self) -> None:
        flavor = "model_optimization_flavor(optimization_level=0)\n"
        first = parse(flavor + "a/n = normalization([0], [1])\n")
        second = parse("b/n = normalization([0], [1])\n" + flavor)
        assert str(merge([first, second])) == (
            flavor + "a/n = normalization([0], [1])\nb/n = normalization([0], [1])\n"
        )

    def test_contradictions_are_listed_with_both_places(self) -> None:
        first = parse("model_optimization_flavor(optimization_level=0)\nperformance_param(fps=30)", "models[0]")
        second = parse("model_optimization_flavor(optimization_level=2)\nperformance_param(fps=60)", "models[1]")
        with pytest.raises(SpecError) as caught:
            merge([first, second])
        assert [problem.path for problem in caught.value.problems] == ["models[1]:1:1", "models[1]:2:1"]
        assert "optimization_level=2, but models[0]:1:1 sets optimization_level=0" in str(caught.value)

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (
                "quantization_param(a/conv1, precision_mode=a8_w4)",
                "quantization_param(b/conv1, precision_mode=a8_w8)",
            ),
            (
                "model_optimization_config(calibration, batch_size=4)",
                "model_optimization_config(checker_cfg, batch_size=2)",
            ),
            ("allocator_param(timeout=2h)", "allocator_param(seed=1)"),
            (
                "pre_quantization_optimization(weights_clipping, layers=[a/conv1], mode=manual)",
                "pre_quantization_optimization(weights_clipping, layers=[b/conv1], mode=mmse)",
            ),
        ],
    )
    def test_settings_of_different_things_do_not_contradict(self, first: str, second: str) -> None:
        assert len(merge([parse(first), parse(second)]).commands) == 2

    def test_features_of_the_whole_network_contradict(self) -> None:
        on = parse("post_quantization_optimization(finetune, policy=enabled)")
        off = parse("post_quantization_optimization(finetune, policy=disabled)")
        with pytest.raises(SpecError, match="policy=disabled"):
            merge([on, off])


def test_a_long_name_is_shortened_in_every_message() -> None:
    name = "n" * 10_000
    found = problems(f"{name}({', '.join(['a=1'] * 100)})")
    assert len(found) == 100
    assert {len(message) < 100 for _, message in found} == {True}
    assert found[0][1] == f"`{'n' * 60}…` is given a twice"


def test_values_keep_their_kind() -> None:
    value: Value = parse("nms_postprocess('cpu', engine=cpu)").commands[0].args[0]
    assert type(value) is str
    assert type(parse("nms_postprocess(cpu)").commands[0].args[0]) is Word
