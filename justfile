# Steps of .ci/run, one at a time: `just lint`, `just docs`, `just test`. `just --list` names them.

# everything that must hold before a change lands, in fresh environments
all:
    bash .ci/run

# style, types and spelling
lint:
    bash .ci/run lint

# the distribution of kernels
kernels:
    bash .ci/run kernels

# the site, into docs/_build
docs:
    SITE=docs/_build bash .ci/run docs

# the wheel alone, without extras
wheel:
    bash .ci/run wheel

# small calls, compared with NumPy in one run
small:
    bash .ci/run small

# the quick tests with the oldest supported dependencies
oldest:
    bash .ci/run oldest

# the slow tests, and those that compare with torch, JAX, Dask, Keras, numba and pandas
peers:
    bash .ci/run peers

# pages, notebooks and the site in a browser, which needs Chromium
browser:
    bash .ci/run browser

# the quick tests with the newest version of Python, where there is one
newest:
    bash .ci/run newest

# the README's demo
demo:
    bash .ci/run demo

# the README's tests: the quick ones, in .venv
test:
    bash .ci/run test

# the quick tests with the Python of $PYTHON
suite:
    bash .ci/run suite
