"""Lost transactions: list, report, downloads, dealt with."""
