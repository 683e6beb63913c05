"""Tests that share one PostgreSQL and one `clipsmith up`; a package, so that both end after the last of them."""
