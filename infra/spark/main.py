"""The entry for spark-submit: `spark-submit ... infra/spark/main.py streaming.run --state ...`."""

import runpy
import sys

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
