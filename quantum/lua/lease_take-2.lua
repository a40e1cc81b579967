-- Take a role's lease if it is free, or if it is already ours (a call whose answer was lost).
-- KEYS[1] lease of the role (string: token of its holder)
-- KEYS[2] heartbeat of the role on this host (string)
-- ARGV[1] token  ARGV[2] life of the lease in ms  ARGV[3] heartbeat text  ARGV[4] life of the heartbeat in ms
-- Returns {1, token} when taken, {0, token of the holder} when held by another.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return {0, holder}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return {1, ARGV[1]}
