from services.ranker.bind import bind
from services.runtime import main

main("ranker", bind)
