"""Ways of distilling compared in one grid: what is asked, how each row is trained and scored, all of them."""
