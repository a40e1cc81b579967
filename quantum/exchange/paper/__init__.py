"""The paper exchange: Binance's USD-M futures protocol on loopback, with exact books.

market.py    symbols and prices          book.py      positions and realised profit (pure)
errors.py    the codes it answers with   orders.py    what an order request must look like
store.py     the SQLite file: its memory venue.py      places, fills and cancels orders
auth.py      keys, signatures, clock     scenario.py  scripted faults, as data
api.py       one function per endpoint   rows.py      the JSON shapes they answer with
changes.py   what happened, as steps     event_rows.py  the same as the stream's JSON
listen_key.py  its 60 minutes            user_lines.py  the websocket lines of the user stream
stream_faults.py  what it can do wrong    weights.py    what is counted, 429 and 418
algo.py      conditional orders, kept
server.py    HTTP, faults, signals       control.py   what no exchange offers: scripting, the log
process.py   runs it as a child process  __main__.py  its command line
"""
