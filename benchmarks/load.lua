-- What wrk runs: one request after another, each with the next credential of a file.
--   wrk ... URL -- TEMPLATE CREDENTIALS rotate COUNT  the first COUNT credentials in turn, again and again
--   wrk ... URL -- TEMPLATE CREDENTIALS walk OFFSET   each credential once, from this byte of the file on
-- The template is a whole request with @@ where the credential goes; the requests leave this machine as they stand there.

local threads = {}

function setup(thread)
   threads[#threads + 1] = thread
end

local function read_all(path)
   local file = assert(io.open(path, "rb"))
   local text = file:read("*a")
   file:close()
   return text
end

function init(args)
   local template = read_all(args[1])
   local at = template:find("@@", 1, true)
   before = at and template:sub(1, at - 1) or template
   after = at and template:sub(at + 2) or ""
   credentials = assert(io.open(args[2], "rb"))
   walks = args[3] == "walk"
   sent = -1 -- wrk calls request() once before it begins, to look at it, and sends nothing
   ended = false
   if walks then
      credentials:seek("set", tonumber(args[4]))
      first = credentials:read("*l")
   else
      requests = {}
      for line in credentials:lines() do
         requests[#requests + 1] = before .. line .. after
         if #requests == tonumber(args[4]) then
            break
         end
      end
      count = #requests
   end
end

function request()
   sent = sent + 1
   if not walks then
      return requests[sent % count + 1]
   end
   local line = first
   if sent > 0 then
      line = sent == 1 and first or credentials:read("*l")
   end
   if line == nil then
      ended = true
      wrk.thread:stop()
      line = first
   end
   return before .. line .. after
end

function done(summary, latency)
   local only = threads[1]
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "seconds": %.6f, "refused": %d, "failed": %d, "sent": %d, "ended": %s, "p50": %d, "p99": %d}\n',
      summary.requests, summary.duration / 1e6, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      only:get("sent"), tostring(only:get("ended")), latency:percentile(50), latency:percentile(99)
   ))
end
