"""`tasks.torch_fp8.aot` by the name that scripts inside older releases call: `python -m tasks.bench.aot`."""

from tasks.torch_fp8.aot import main

if __name__ == "__main__":
    main()
