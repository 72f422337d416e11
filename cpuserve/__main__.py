"""`python -m cpuserve` is `cpuserve`."""

from cpuserve.cli import main

if __name__ == "__main__":
    main()
