package segment

import (
	"github.com/libflare/libflare/segment/engine"
)

// Devices lists the devices and whether they work on this machine. runtime is as in
// OpenOptions. It fails where there is no ONNX Runtime; the error lists every place
// looked.
func Devices(runtime string) (DeviceList, error) {
	file, devices, err := engine.Devices(runtime)
	if err != nil {
		return DeviceList{}, err
	}
	list := DeviceList{Runtime: file, RuntimeVersion: engine.Version()}
	for _, d := range devices {
		info := DeviceInfo{Name: d.Name, Description: d.Description, Available: d.Err == nil}
		if d.Err != nil {
			info.Reason = d.Err.Error()
		}
		list.Devices = append(list.Devices, info)
	}
	return list, nil
}
