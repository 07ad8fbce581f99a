from asrdistill.cli import main

main()
