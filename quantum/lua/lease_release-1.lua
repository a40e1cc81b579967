-- Give a lease back, but only one's own: after a freeze it may be another's by now.
-- KEYS[1] lease of the role (string: token of its holder)
-- ARGV[1] token
-- Returns 1 when released, 0 when it was not ours.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
