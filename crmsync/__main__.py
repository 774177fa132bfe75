"""`python -m crmsync`: the console command."""

from crmsync.cli import main

if __name__ == "__main__":
    main()
