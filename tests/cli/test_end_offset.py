"""`--query-offset end`, also where the command works in blocks of rows."""

import numpy as np
from typer.testing import CliRunner

import attention_core as ac
from attention_core.cli.app import app


def test_the_command_aligns_the_last_query_with_the_last_key(tmp_path, rng):
    x = rng.standard_normal((7, 3))
    np.savez(tmp_path / "x.npz", query=x[4:], key=x, value=x)
    arguments = ["attend", str(tmp_path / "x.npz"), "--scorer", "dot", "--causal"]
    arguments += ["--query-offset", "end", "-o", str(tmp_path / "o.npy")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    expected = ac.attend(x[4:], x, x, scorer="dot", is_causal=True, query_offset=4).context
    np.testing.assert_allclose(np.load(tmp_path / "o.npy"), expected)
