from services.policy.bind import bind
from services.runtime import main

main("policy", bind)
